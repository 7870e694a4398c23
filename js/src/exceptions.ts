/** What thrown values say of themselves. */

/** What an exception says of itself, as far as it lets itself be asked. */
export function partsOf(exception: any): {
  type: string | undefined;
  message: string | undefined;
  stack: string | undefined;
} {
  const text = (field: string): string | undefined => {
    try {
      const value = exception[field];
      return typeof value === 'string' ? value : typeof value === 'number' ? String(value) : undefined;
    } catch {
      return undefined;
    }
  };
  let type = text('name');
  if (type === undefined) {
    try {
      type = exception.constructor?.name;
    } catch {
      // It stays unnamed.
    }
  }
  return { type: type || text('code'), message: text('message'), stack: text('stack') };
}

/** The same of a value that is no object. */
export function partsOfPrimitive(thrown: unknown): { type: string | undefined; message: string } {
  return {
    type: thrown === null ? 'null' : typeof thrown,
    message: typeof thrown === 'symbol' ? thrown.toString() : `${thrown as any}`,
  };
}
