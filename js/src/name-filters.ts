/** The option `spanNameFilters`: which spans are exported, by the beginnings of their names. */

import { check, kindName } from './arguments.js';

/** One prefix. */
export interface NameFilter {
  type?: 'prefix';
  value: string;
}

/** Which names are exported. */
export interface NameFilters {
  include?: readonly NameFilter[];
  exclude?: readonly NameFilter[];
}

/** The prefixes that filters name.
 *
 * @throws TypeError if they are none
 */
export function prefixesOf(filters: unknown): { include: string[]; exclude: string[] } {
  check('spanNameFilters', filters, 'object');
  for (const key of Object.keys(filters as object)) {
    if (key !== 'include' && key !== 'exclude') throw new TypeError(`spanNameFilters has no field ${key}`);
  }
  const { include, exclude } = filters as NameFilters;
  return { include: list('include', include), exclude: list('exclude', exclude) };
}

function list(name: string, entries: unknown): string[] {
  if (entries === undefined || entries === null) return [];
  if (!Array.isArray(entries))
    throw new TypeError(`spanNameFilters.${name} must be an Array, not ${kindName(entries)}`);
  return entries.map((entry: any) => {
    if (typeof entry?.value !== 'string' || (entry.type ?? 'prefix') !== 'prefix') {
      throw new TypeError(`an entry of spanNameFilters.${name} must be { type: 'prefix', value: string }`);
    }
    return entry.value;
  });
}
