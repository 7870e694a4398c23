/** The names of a function's parameters, as far as its source shows them. */

/** For each parameter: its name, or that its fields are taken apart, or neither. */
export interface Parameter {
  readonly name: string | undefined;
  readonly isRest: boolean;
  /** `{ a, b }`: the fields of the argument are what the function calls its parameters. */
  readonly isObject: boolean;
}

const IDENTIFIER = /^[\p{ID_Start}$_][\p{ID_Continue}$\u200c\u200d]*$/u;

/** The parameters of a function; none where its source is not there, or is of no kind that is known here. */
export function parametersOf(fn: Function): readonly Parameter[] {
  try {
    const list = listOf(Function.prototype.toString.call(fn));
    return list === undefined ? [] : split(list).map(parameter);
  } catch {
    return [];
  }
}

/** The arguments of a call by name; those without one by their position. */
export function argumentsByName(parameters: readonly Parameter[], args: readonly unknown[]): Record<string, unknown> {
  const named: Record<string, unknown> = Object.create(null);
  for (let index = 0; index < args.length; index++) {
    const parameter = parameters[index];
    const argument = args[index];
    if (parameter === undefined) named[String(index)] = argument;
    else if (parameter.isRest) {
      named[parameter.name ?? String(index)] = args.slice(index);
      break;
    } else if (parameter.isObject && argument !== null && typeof argument === 'object' && !Array.isArray(argument)) {
      try {
        Object.assign(named, argument);
      } catch {
        named[String(index)] = argument;
      }
    } else named[parameter.name ?? String(index)] = argument;
  }
  return named;
}

/** The source of the list of parameters. */
function listOf(source: string): string | undefined {
  // `x => …`, `async x => …`
  const bare = /^(?:async\s+)?([\p{ID_Start}$_][\p{ID_Continue}$]*)\s*=>/u.exec(source);
  if (bare !== null) return bare[1];
  const open = source.indexOf('(');
  // A method's computed name may have parentheses of its own.
  const bracket = source.indexOf('[');
  if (open < 0 || (bracket >= 0 && bracket < open)) return undefined;
  const close = closing(source, open);
  return close < 0 ? undefined : source.slice(open + 1, close);
}

const PAIRS: Record<string, string> = { '(': ')', '[': ']', '{': '}' };

/** Where what opens at `from` is closed; -1 where that cannot be told. */
function closing(source: string, from: number): number {
  const expected: string[] = [];
  for (let at = from; at < source.length; at++) {
    const char = source[at];
    const skipped = skip(source, at);
    if (skipped !== at) {
      at = skipped;
      continue;
    }
    const pair = PAIRS[char];
    if (pair !== undefined) expected.push(pair);
    else if (char === ')' || char === ']' || char === '}') {
      if (expected.pop() !== char) return -1;
      if (expected.length === 0) return at;
    }
  }
  return -1;
}

/** The last character of a comment or text that begins at `at`; `at` where none does. */
function skip(source: string, at: number): number {
  const char = source[at];
  if (char === '/' && source[at + 1] === '*') return end(source.indexOf('*/', at + 2), 1);
  if (char === '/' && source[at + 1] === '/') return end(source.indexOf('\n', at + 2), 0);
  if (char !== '"' && char !== "'" && char !== '`') return at;
  for (let next = at + 1; next < source.length; next++) {
    if (source[next] === '\\') next++;
    else if (source[next] === char) return next;
  }
  return source.length;

  function end(found: number, more: number): number {
    return found < 0 ? source.length : found + more;
  }
}

/** The parameters of a list, each as its source without comments. */
function split(list: string): string[] {
  const parts: string[] = [];
  let part = '';
  for (let at = 0; at < list.length; at++) {
    const skipped = skip(list, at);
    if (skipped !== at) {
      if (list[at] !== '/') part += list.slice(at, skipped + 1);
      at = skipped;
    } else if (PAIRS[list[at]] !== undefined) {
      const close = closing(list, at);
      if (close < 0) return [];
      part += list.slice(at, close + 1);
      at = close;
    } else if (list[at] === ',') {
      parts.push(part.trim());
      part = '';
    } else part += list[at];
  }
  if (part.trim() !== '') parts.push(part.trim());
  return parts;
}

function parameter(source: string): Parameter {
  const isRest = source.startsWith('...');
  const bare = isRest ? source.slice(3).trim() : source;
  const name = bare.split('=')[0].trim();
  return { name: IDENTIFIER.test(name) ? name : undefined, isRest, isObject: bare.startsWith('{') };
}
