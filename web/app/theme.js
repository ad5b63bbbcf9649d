// Light, dark, or as the system's: chosen by the button at the top, kept in this browser.

const KEY = "edgecloud.theme";
const THEMES = [["", "◐", "as the system's"], ["light", "☀", "light"], ["dark", "☾", "dark"]];

/** Put the choice on the page; `step` 1: the next one is chosen. */
export function apply(button, step) {
  const kept = THEMES.findIndex(([name]) => name === (localStorage.getItem(KEY) ?? ""));
  const [name, sign, words] = THEMES[(Math.max(0, kept) + step) % THEMES.length];
  localStorage.setItem(KEY, name);
  document.documentElement.dataset.theme = name;
  button.textContent = sign;
  button.setAttribute("aria-label", `Colours: ${words}`);
}
