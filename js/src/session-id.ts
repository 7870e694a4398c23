/** What can be a session id. */

import { kindName } from './arguments.js';

/** Characters of a session id at most. */
const MAX_CHARACTERS = 256;

/** @throws TypeError if it is no text, RangeError if the text cannot be a session id: 1 to 256 characters */
export function checkSessionId(name: string, session: unknown): void {
  if (typeof session !== 'string') throw new TypeError(`${name} must be a string, not ${kindName(session)}`);
  const length = session.length <= MAX_CHARACTERS ? session.length : [...session].length;
  if (length < 1 || length > MAX_CHARACTERS) throw new RangeError(`${name} must be a text of 1 to 256 characters`);
}
