"""CloudFormation's intrinsic functions: template nodes and what is deployed so far in, plain values out."""

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from local_cloud.errors import DeployError, Unsupported

NO_VALUE = object()
_SUB = re.compile(r"\$\{(!?)([^}]*)\}")
_DYNAMIC = re.compile(r"\{\{resolve:([a-z-]+):([^}]*)\}\}")
PSEUDO = ("AccountId", "NotificationARNs", "NoValue", "Partition", "Region", "StackId", "StackName", "URLSuffix")


class Deployed(Protocol):
    """What a reference needs of a resource: its Ref value and its attributes by name."""

    @property
    def ref(self) -> str: ...
    @property
    def attributes(self) -> Mapping[str, Any]: ...


def intrinsic_of(node: Any) -> tuple[str, Any] | None:
    """(function, argument) when the node is a call of an intrinsic, known or not."""
    if isinstance(node, dict) and len(node) == 1:
        ((key, argument),) = node.items()
        if key == "Ref" or key.startswith("Fn::"):
            return key, argument
    return None


def walk(node: Any) -> Iterator[Any]:
    """The node and all nodes below it."""
    yield node
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        yield from walk(child)


def _get_att_parts(argument: Any) -> tuple[str, Any]:
    if isinstance(argument, str):
        logical_id, _, attribute = argument.partition(".")
        return logical_id, attribute
    if isinstance(argument, list) and len(argument) == 2 and isinstance(argument[0], str):
        return argument[0], argument[1]
    raise DeployError(f'Fn::GetAtt {argument!r}: expected [logical id, attribute] or "id.attribute"')


def _sub_parts(argument: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(argument, str):
        return argument, {}
    if (
        isinstance(argument, list)
        and len(argument) == 2
        and isinstance(argument[0], str)
        and isinstance(argument[1], dict)
    ):
        return argument[0], argument[1]
    raise DeployError(f"Fn::Sub {argument!r}: expected a string or [string, map]")


def references(node: Any) -> Iterator[tuple[str, str | None]]:
    """Each (name, attribute or None) that Ref, Fn::GetAtt and Fn::Sub below this node name, AWS::… included."""
    for one in walk(node):
        call = intrinsic_of(one)
        if call is None:
            continue
        function, argument = call
        if function == "Ref":
            yield str(argument), None
        elif function == "Fn::GetAtt":
            name, attribute = _get_att_parts(argument)
            yield name, attribute if isinstance(attribute, str) else None
        elif function == "Fn::Sub":
            text, variables = _sub_parts(argument)
            for literal, name in _SUB.findall(text):
                if not literal and name.strip() not in variables:
                    logical_id, dot, attribute = name.strip().partition(".")
                    yield logical_id, attribute if dot else None


class Resolver:
    """Resolves nodes of one template against parameters, mappings, conditions and the resources deployed so far.

    `ssm_value(name)` gives an SSM String parameter's value (it may block); DeployError when there is none.
    """

    def __init__(
        self,
        template: dict[str, Any],
        pseudo: dict[str, Any],
        parameters: dict[str, Any],
        deployed: Mapping[str, Deployed],
        ssm_value: Callable[[str], str],
    ) -> None:
        self._template = template
        self._pseudo = pseudo
        self._parameters = parameters
        self._deployed = deployed
        self._ssm_value = ssm_value
        self._conditions: dict[str, bool] = {}

    def resolve(self, node: Any) -> Any:
        """The plain value of a node; NO_VALUE members vanish, dynamic references are replaced."""
        return self._dynamic(self._value(node))

    def condition(self, name: str) -> bool:
        """The truth of a named condition."""
        if name not in self._conditions:
            try:
                body = self._template.get("Conditions", {})[name]
            except KeyError:
                raise DeployError(f"condition {name!r} is not defined in the template") from None
            self._conditions[name] = self._truth(body)
        return self._conditions[name]

    def _value(self, node: Any) -> Any:
        call = intrinsic_of(node)
        if call:
            return self._call(*call)
        if isinstance(node, dict):
            pairs = ((key, self._value(child)) for key, child in node.items())
            return {key: value for key, value in pairs if value is not NO_VALUE}
        if isinstance(node, list):
            return [value for value in map(self._value, node) if value is not NO_VALUE]
        return node

    def _call(self, function: str, argument: Any) -> Any:
        implementation = FUNCTIONS.get(function)
        if implementation is None:
            raise Unsupported(refusal(function))
        return implementation(self, argument)

    def _reference(self, name: Any) -> Any:
        if not isinstance(name, str):
            raise DeployError(f"Ref {name!r}: expected a name")
        if name.startswith("AWS::"):
            if name == "AWS::NoValue":
                return NO_VALUE
            if name not in self._pseudo:
                raise Unsupported(f"Ref {name}: unknown pseudo parameter; known: {', '.join(sorted(self._pseudo))}")
            return self._pseudo[name]
        if name in self._parameters:
            return self._parameters[name]
        return self._resource(name).ref

    def _resource(self, name: str) -> Deployed:
        if name not in self._deployed:
            raise DeployError(
                f"reference to {name!r}, which is no parameter and no deployed resource (is its Condition false?)"
            )
        return self._deployed[name]

    def _get_att(self, argument: Any) -> Any:
        name, attribute = _get_att_parts(argument)
        attribute = self._value(attribute)
        attributes = self._resource(name).attributes
        if attribute not in attributes:
            raise Unsupported(
                f"Fn::GetAtt {name}.{attribute}: unknown attribute; known: {', '.join(sorted(attributes)) or 'none'}"
            )
        return attributes[attribute]

    def _sub(self, argument: Any) -> str:
        text, variables = _sub_parts(argument)

        def replacement(match: re.Match[str]) -> str:
            literal, name = match.group(1), match.group(2).strip()
            if literal:
                return "${" + match.group(2) + "}"
            if name in variables:
                return _text(self._value(variables[name]), f"Fn::Sub ${{{name}}}")
            value = self._get_att(name) if "." in name else self._reference(name)
            return _text(value, f"Fn::Sub ${{{name}}}")

        return _SUB.sub(replacement, text)

    def _join(self, argument: Any) -> str:
        delimiter, items = self._pair(argument, "Fn::Join", "[delimiter, list]")
        if not isinstance(items, list):
            raise DeployError(f"Fn::Join of {items!r}: expected a list")
        return str(delimiter).join(_text(item, "Fn::Join") for item in items)

    def _select(self, argument: Any) -> Any:
        index, items = self._pair(argument, "Fn::Select", "[index, list]")
        if isinstance(items, list) and str(index).isdigit() and int(index) < len(items):
            return items[int(index)]
        raise DeployError(f"Fn::Select {index!r} of {items!r}: no such element")

    def _split(self, argument: Any) -> list[str]:
        delimiter, text = self._pair(argument, "Fn::Split", "[delimiter, string]")
        return _text(text, "Fn::Split").split(str(delimiter))

    def _find_in_map(self, argument: Any) -> Any:
        keys = self._value(argument)
        if not isinstance(keys, list) or len(keys) != 3:
            raise Unsupported(f"Fn::FindInMap {argument!r}: expected [map, key, key]; DefaultValue needs a transform")
        node = self._template.get("Mappings", {})
        for key in keys:
            if not isinstance(node, dict) or str(key) not in node:
                raise DeployError(f"Fn::FindInMap {keys!r}: {key!r} is not in Mappings")
            node = node[str(key)]
        return node

    def _base64(self, argument: Any) -> str:
        return base64.b64encode(_text(self._value(argument), "Fn::Base64").encode()).decode()

    def _if(self, argument: Any) -> Any:
        if not isinstance(argument, list) or len(argument) != 3:
            raise DeployError(f"Fn::If {argument!r}: expected [condition, then, else]")
        return self._value(argument[1] if self.condition(argument[0]) else argument[2])

    def _pair(self, argument: Any, function: str, shape: str) -> list[Any]:
        if not isinstance(argument, list) or len(argument) != 2:
            raise DeployError(f"{function} {argument!r}: expected {shape}")
        return [self._value(item) for item in argument]

    def _truth(self, node: Any) -> bool:
        if isinstance(node, dict) and set(node) == {"Condition"}:
            return self.condition(node["Condition"])
        call = intrinsic_of(node)
        function, argument = call or ("", None)
        if function == "Fn::Equals" and isinstance(argument, list) and len(argument) == 2:
            first, second = (self._value(item) for item in argument)
            return bool(_comparable(first) == _comparable(second))
        if function in ("Fn::And", "Fn::Or") and isinstance(argument, list):
            return (all if function == "Fn::And" else any)([self._truth(item) for item in argument])
        if function == "Fn::Not" and isinstance(argument, list) and len(argument) == 1:
            return not self._truth(argument[0])
        raise Unsupported(f"condition {node!r}: expected Fn::Equals, Fn::And, Fn::Or, Fn::Not or Condition")

    def _dynamic(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._dynamic(child) for key, child in value.items()}
        if isinstance(value, list):
            return [self._dynamic(child) for child in value]
        return _DYNAMIC.sub(self._dynamic_value, value) if isinstance(value, str) and "{{resolve:" in value else value

    def _dynamic_value(self, match: re.Match[str]) -> str:
        service, argument = match.groups()
        if service != "ssm":
            raise Unsupported(
                f"{match.group(0)}: only {{{{resolve:ssm:NAME}}}} is known here; hand the value over as an SSM String"
            )
        return self._ssm_value(argument)


def _comparable(value: Any) -> Any:
    return _text(value, "Fn::Equals") if isinstance(value, bool | int | float | str) else value


def _text(value: Any, where: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise DeployError(f"{where}: {value!r} is not a string")


def refusal(function: str) -> str:
    """Why an intrinsic is refused and what to do instead."""
    if function == "Fn::ImportValue":
        return "Fn::ImportValue: exports are not emulated; hand the value over as an SSM String parameter"
    return f"{function}: unknown intrinsic; known: {', '.join(sorted(FUNCTIONS))}"


FUNCTIONS: dict[str, Callable[[Resolver, Any], Any]] = {
    "Ref": Resolver._reference,
    "Fn::GetAtt": Resolver._get_att,
    "Fn::Sub": Resolver._sub,
    "Fn::Join": Resolver._join,
    "Fn::Select": Resolver._select,
    "Fn::Split": Resolver._split,
    "Fn::FindInMap": Resolver._find_in_map,
    "Fn::Base64": Resolver._base64,
    "Fn::If": Resolver._if,
}
CONDITION_FUNCTIONS = ("Fn::And", "Fn::Equals", "Fn::Not", "Fn::Or")
