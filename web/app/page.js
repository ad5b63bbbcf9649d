// The page's own parts by their id, and when each is due again.

/** The element of this id. */
export const at = (id) => document.getElementById(id);

/** Set an element's text, if it is another: a screen reader says what is set. */
export function say(id, text) {
  if (at(id).textContent !== text) at(id).textContent = text;
}

let next = {};

/** Whether it is time for `what` again, which then is for everyMs: by a clock that nobody sets. */
export function due(what, everyMs) {
  if (performance.now() < (next[what] ?? 0)) return false;
  next[what] = performance.now() + everyMs;
  return true;
}

/** These are due at once; none named: everything is. */
export function dueNow(...whats) {
  if (whats.length) whats.forEach((what) => { next[what] = 0; });
  else next = {};
}
