"""The people who may use the HTTP API: the user pool of a deployment (infra/auth.py), for `make user`, `make token` and
the commands that ask the API something themselves.
"""
import secrets
import string
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from deploy.target import TargetFault

FLOW = "ADMIN_USER_PASSWORD_AUTH"
PASSWORD_LENGTH = 20
_KINDS = (string.ascii_lowercase, string.ascii_uppercase, string.digits, "!#%+-.:=?@_")
Ask = Callable[[str], str]


@dataclass(frozen=True)
class Users:
    """The people of one deployment. client: boto3's cognito-idp; app: the pool's client `tools`; options: what a make
    command is given to reach this deployment, such as TARGET=local."""

    client: Any
    pool: str
    app: str
    options: str = ""

    def create(self, email: str, password: str) -> None:
        """A user whose address counts as checked, and who changes this password at the first sign-in."""
        attributes = [{"Name": "email", "Value": email}, {"Name": "email_verified", "Value": "true"}]
        try:
            self.client.admin_create_user(UserPoolId=self.pool, Username=email, TemporaryPassword=password,
                                          UserAttributes=attributes, MessageAction="SUPPRESS")
        except self.client.exceptions.UsernameExistsException:
            raise TargetFault(f"{email} is a user already; RESET=1 gives a new temporary password: "
                              f"{self._make(email, 'RESET=1')}") from None
        except self.client.exceptions.InvalidParameterException as no:  # no address
            raise TargetFault(f"{email}: {no.response['Error']['Message']}") from None
        except self.client.exceptions.InvalidPasswordException as no:
            raise TargetFault(f"{email}: {no.response['Error']['Message']}") from None

    def set_password(self, email: str, password: str, *, permanent: bool) -> None:
        """A new password, to be changed at the next sign-in unless permanent."""
        try:
            self.client.admin_set_user_password(UserPoolId=self.pool, Username=email, Password=password,
                                                Permanent=permanent)
        except self.client.exceptions.UserNotFoundException:
            raise TargetFault(f"{email} is no user; make one: {self._make(email)}") from None
        except self.client.exceptions.InvalidPasswordException as no:
            raise TargetFault(f"{email}: {no.response['Error']['Message']}") from None

    def sign_in(self, email: str, password: str, ask: Ask) -> str:
        """An access token, valid for an hour; ask: for a new password or the code of a second factor. TargetFault."""
        given = {"USERNAME": email, "PASSWORD": password}
        try:
            answer = self.client.admin_initiate_auth(UserPoolId=self.pool, ClientId=self.app, AuthFlow=FLOW,
                                                     AuthParameters=given)
            while "AuthenticationResult" not in answer:
                answer = self._respond(email, answer, ask)
        except (self.client.exceptions.NotAuthorizedException, self.client.exceptions.UserNotFoundException):
            raise TargetFault(f"the user pool does not know {email} with this password; RESET=1 gives a new one: "
                              f"{self._make(email, 'RESET=1')}") from None
        except (self.client.exceptions.InvalidPasswordException, self.client.exceptions.CodeMismatchException) as no:
            raise TargetFault(f"{email}: {no.response['Error']['Message']}") from None
        return str(answer["AuthenticationResult"]["AccessToken"])

    def _make(self, email: str, *words: str) -> str:
        """`make user` for this address here."""
        return " ".join(filter(None, ("make user", f"EMAIL={email}", *words, self.options)))

    def _respond(self, email: str, answer: Any, ask: Ask) -> Any:
        challenge = answer["ChallengeName"]
        asked = {"NEW_PASSWORD_REQUIRED": ("NEW_PASSWORD", f"New password for {email}: "),
                 "SOFTWARE_TOKEN_MFA": ("SOFTWARE_TOKEN_MFA_CODE", "Code of the authenticator app: ")}
        if challenge not in asked:
            raise TargetFault(f"the user pool asks {email} for {challenge}, which this command cannot answer; sign in "
                              "through the pool's page (output SignInUrl)")
        name, question = asked[challenge]
        return self.client.admin_respond_to_auth_challenge(
            UserPoolId=self.pool, ClientId=self.app, ChallengeName=challenge, Session=answer["Session"],
            ChallengeResponses={"USERNAME": email, name: ask(question)})


def users_of(parameter: Callable[[str], str], client: Any, options: str = "") -> Users:
    """The users of a deployment. parameter: the value of its SSM parameter `/<name>/<what>`; options: see Users."""
    return Users(client, parameter("user-pool"), parameter("tools-client"), options)


def new_password() -> str:
    """A random one that satisfies the pool's policy."""
    drawn = [secrets.choice(kind) for kind in _KINDS]
    drawn += [secrets.choice("".join(_KINDS)) for _ in range(PASSWORD_LENGTH - len(drawn))]
    secrets.SystemRandom().shuffle(drawn)
    return "".join(drawn)


@contextmanager
def visitor(users: Users) -> Iterator[str]:
    """An access token of a user who is there for this long."""
    email, password = f"visitor-{secrets.token_hex(6)}@local.example", new_password()
    users.create(email, password)
    try:
        users.set_password(email, password, permanent=True)
        yield users.sign_in(email, password, _nothing)
    finally:
        users.client.admin_delete_user(UserPoolId=users.pool, Username=email)


def demo_token(parameter: Callable[[str], str], client: Any) -> str:
    """An access token of a local cloud's user for demonstrations, made for it; see users_of for the arguments."""
    users, email, password = users_of(parameter, client), f"demo-{secrets.token_hex(3)}@local.example", new_password()
    users.create(email, password)
    users.set_password(email, password, permanent=True)
    return users.sign_in(email, password, _nothing)


def _nothing(question: str) -> str:
    raise TargetFault(f"a user made a moment ago is asked: {question}")
