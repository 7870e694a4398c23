/** Arguments of the surface: a wrong type is a TypeError that names the argument and the type. */

/** What a value is, for messages. */
export function kindName(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'Array';
  if (typeof value !== 'object') return typeof value;
  try {
    return value.constructor?.name || 'object';
  } catch {
    return 'object';
  }
}

/** Names of types, and how they are told. */
const TYPES = {
  boolean: 'a boolean',
  function: 'a function',
  number: 'a number',
  object: 'an object',
  string: 'a string',
} as const;

/** @throws TypeError if the value is of another type; `undefined` and `null` count as not given. */
export function check(name: string, value: unknown, type: keyof typeof TYPES): void {
  if (value === undefined || value === null) return;
  if (typeof value !== type || (type === 'object' && Array.isArray(value))) {
    throw new TypeError(`${name} must be ${TYPES[type]}, not ${kindName(value)}`);
  }
}

/** @throws TypeError if the value is of another type, or not given. */
export function require_(name: string, value: unknown, type: keyof typeof TYPES): void {
  if (value === undefined || value === null) {
    throw new TypeError(`${name} must be ${TYPES[type]}, not ${kindName(value)}`);
  }
  check(name, value, type);
}

const spelled = new Map<string, string>();

/** `fooBar` as `foo_bar`; what has underscores stays. */
export function snake(name: string): string {
  let found = spelled.get(name);
  if (found === undefined) {
    found = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    // Names are a program's own, and few; other fields of metadata are not kept for ever.
    if (spelled.size < 1_000) spelled.set(name, found);
  }
  return found;
}

/** `foo_bar` as `fooBar`. */
export function camel(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** A time in whole milliseconds, of a sensible size.
 *
 * @throws TypeError if it is no number, RangeError for NaN
 */
export function millis(name: string, value: unknown): number {
  if (typeof value !== 'number')
    throw new TypeError(`${name} must be a number of milliseconds, not ${kindName(value)}`);
  if (Number.isNaN(value)) throw new RangeError(`${name} must be a number of milliseconds, not NaN`);
  return Math.floor(Math.min(Math.max(value, 0), 2 ** 31 - 1));
}
