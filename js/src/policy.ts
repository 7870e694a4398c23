/** Whom to trust with what. */

import { kindName, snake } from './arguments.js';
import type { Blob } from './bytes.js';
import { captured, exchange } from './exchange.js';
import { OP_EXPLAIN } from './protocol.js';
import { AMPLE } from './tree.js';

/** The fields of a policy. What is left out has its default. */
export interface PolicyOptions {
  /** What becomes of callers' traces: `continue` (default) goes on in them, `restart` begins new ones that are linked with
   * them, `ignore` takes nothing of what callers send. */
  inbound?: 'continue' | 'restart' | 'ignore';
  /** Whether a caller's session holds here; default yes. */
  acceptSession?: boolean;
  /** Whether a caller's project holds here; default yes. */
  acceptProject?: boolean;
  /** Keys of baggage that become attributes of spans; default none. */
  baggageAttributes?: readonly string[];
  /** Members of baggage that are read and written at most; default 180. */
  maxMembers?: number;
  /** Bytes of baggage that are read and written at most; default 8192. */
  maxBytes?: number;
  /** Hosts that baggage may go to besides those of one's own network: `api.example.com`, `*.example.com`. */
  propagateTo?: readonly string[];
}

const FIELDS = new Set([
  'inbound',
  'accept_session',
  'accept_project',
  'baggage_attributes',
  'max_members',
  'max_bytes',
  'propagate_to',
]);

/** A policy. Its values are checked where it is used first. */
export class Policy {
  /** The fields in core's spelling. @internal */
  readonly fields: Readonly<Record<string, unknown>>;
  private octets: Blob | undefined = undefined;
  private isChecked = false;

  /** @throws TypeError if there is a field of another name */
  constructor(options: PolicyOptions = {}) {
    if (options === null || typeof options !== 'object' || Array.isArray(options)) {
      throw new TypeError(`policy must be an object, not ${kindName(options)}`);
    }
    const fields: Record<string, unknown> = {};
    for (const [name, value] of Object.entries(options)) {
      const key = snake(name);
      if (!FIELDS.has(key)) throw new TypeError(`policy has no field ${name}`);
      if (value !== undefined) fields[key] = value;
    }
    this.fields = fields;
  }

  /** @throws TypeError, RangeError for the first field that is wrong. @internal */
  check(): this {
    if (this.isChecked) return this;
    const to = exchange();
    const request = to.begin(3);
    request.octets(this.tree);
    // It is asked about no header at all.
    for (const [index, word] of [0, this.tree.length, 0].entries()) request.view.setUint32(4 * index, word, true);
    to.call(OP_EXPLAIN, 0);
    this.isChecked = true;
    return this;
  }

  /** Its tree. @internal */
  get tree(): Blob {
    return (this.octets ??= captured(this.fields, AMPLE));
  }
}

/** A policy as it may be given: an object of the class, or its fields.
 *
 * @throws TypeError if it is neither
 */
export function asPolicy(policy: Policy | PolicyOptions | undefined | null): Policy | undefined {
  if (policy === undefined || policy === null) return undefined;
  return policy instanceof Policy ? policy : new Policy(policy);
}
