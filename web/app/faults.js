// What can go wrong while asking; main.js says it to whoever looks.

/** Nobody is signed in, or no longer. */
export class SignInNeeded extends Error {}

/** The API or the sign-in page refused, or cannot be reached (status 0). */
export class ApiError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** A request's answer, or an ApiError when there is none; `who` is asked. */
export async function answered(who, address, options, waitMs) {
  try {
    return await fetch(address, { ...options, signal: AbortSignal.timeout(waitMs) });
  } catch (fault) {
    const late = fault.name === "TimeoutError";
    throw new ApiError(0, late ? `no answer from ${who} within ${waitMs / 1000} s` : `${who} cannot be reached`);
  }
}
