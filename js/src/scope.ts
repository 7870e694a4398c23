/** What a context says about sessions and baggage: bytes of core's, and what is read from them when somebody asks. */

import { octetsOf, textOf, type Blob } from './bytes.js';
import type { Core } from './core.js';
import { exchange } from './exchange.js';
import type { Baggage, BaggageEntry, Context } from './otel-types.js';
import { SCOPE_KEY } from './context.js';
import {
  ABSENT,
  NO_PROPERTIES,
  OP_SCOPE_VIEW,
  OP_SCOPE_WITH_SESSION,
  SESSION_NAMED,
  SESSION_REGISTERED,
  VIEW_ASCII,
  VIEW_BAGGAGE,
  VIEW_LINK,
  VIEW_PROJECT,
  VIEW_SESSION,
  VIEW_SESSION_INBOUND,
  VIEW_SESSION_NAME,
} from './protocol.js';
import { OwnSpanContext, OwnTraceState, NO_STATE } from './span-context.js';

/** A member of baggage: name, decoded value, properties. */
export type Member = [name: string, value: string, properties: string | undefined];

/** What a scope says to one tracer. */
export interface View {
  readonly session: string | undefined;
  readonly sessionName: string | undefined;
  /** A caller sent it, or somebody else has registered it. */
  readonly sessionIsInbound: boolean;
  readonly project: string | undefined;
  /** The caller's span that a new trace is to be linked with. */
  readonly link: OwnSpanContext | undefined;
  readonly members: readonly Member[] | undefined;
}

/** The baggage that a tracer sends, in a scope and where the carrier is empty. */
export class Sent {
  constructor(
    readonly tracer: number,
    readonly baggage: string | undefined,
  ) {}
}

/** Session and raw baggage. */
export class Scope {
  readonly blob: Blob;
  /** The view of OpenTelemetry's API that was made of its baggage and shows nothing else. */
  readonly baggage: OwnBaggage | undefined;
  /** Whether a context with this scope has baggage of the API, unless a program has deleted it. */
  readonly hasBaggage: boolean;
  /** What is sent in it by the tracer that sent last: see `propagation.ts`. */
  sent: Sent | undefined = undefined;
  /** The last tracer that asked, and what it saw. */
  private tracer = -1;
  private seen: View | undefined;
  /** The tracers that have told HoneyHive of its session. */
  private used: number[] | undefined;

  constructor(blob: Blob, baggage: OwnBaggage | undefined, hasBaggage: boolean) {
    this.blob = blob;
    this.baggage = baggage;
    this.hasBaggage = hasBaggage;
  }

  /** What it says to the tracer with this handle. */
  view(tracer: number): View {
    if (this.tracer !== tracer || this.seen === undefined) {
      this.seen = viewOf(this.blob, tracer);
      this.tracer = tracer;
    }
    return this.seen;
  }

  /** Whether this is the first span of this tracer in it. */
  firstUse(tracer: number): boolean {
    if (this.used === undefined) this.used = [tracer];
    else if (this.used.includes(tracer)) return false;
    else this.used.push(tracer);
    return true;
  }
}

/** The scope of a context. */
export function scopeOf(context: Context): Scope | undefined {
  return context.getValue(SCOPE_KEY) as Scope | undefined;
}

/** A scope with another session for a tracer. `registered`: somebody else tells HoneyHive of it.
 *
 * @throws RangeError if the text is no session id
 */
export function withSession(
  base: Scope | undefined,
  tracer: number,
  session: string,
  name: string | undefined,
  registered: boolean,
): Scope {
  const to = exchange();
  const request = to.begin(4);
  const outer = base === undefined ? '' : base.blob;
  request.octets(outer);
  const sessionLength = request.plain(session);
  const nameLength = name === undefined ? 0 : request.plain(name);
  const { view } = request;
  view.setUint32(0, (registered ? SESSION_REGISTERED : 0) | (name === undefined ? 0 : SESSION_NAMED), true);
  view.setUint32(4, outer.length, true);
  view.setUint32(8, sessionLength, true);
  view.setUint32(12, nameLength, true);
  const length = to.call(OP_SCOPE_WITH_SESSION, tracer);
  return new Scope(to.octets(0, length), base?.baggage, base?.hasBaggage === true);
}

/** A context with a session for a tracer that has none of its own. */
export function withOwnSession(context: Context, core: Core): Context {
  if (!core.sessionless) return context;
  const scope = scopeOf(context);
  if (scope !== undefined && scope.view(core.handle).session !== undefined) return context;
  const session = globalThis.crypto.randomUUID();
  return context.setValue(SCOPE_KEY, withSession(scope, core.handle, session, undefined, false));
}

function viewOf(blob: Blob, tracer: number): View {
  const to = exchange();
  to.begin(0).octets(blob);
  const length = to.call(OP_SCOPE_VIEW, tracer);
  const { bytes } = to.memory;
  const bits = to.word(0);
  const lengths = [to.word(1), to.word(2), to.word(3), to.word(4)];
  const count = to.word(5);
  const members: number[] = [];
  for (let index = 0; index < 3 * count; index++) members.push(to.word(6 + index));
  const from = 4 * (6 + 3 * count);
  const pool = (bits & VIEW_ASCII ? octetsOf : textOf)(bytes, from, length);
  let at = 0;
  const next = (units: number): string => pool.slice(at, (at += units));
  const [session, sessionName, project] = [next(lengths[0]), next(lengths[1]), next(lengths[2])];
  let link: OwnSpanContext | undefined;
  if (bits & VIEW_LINK) {
    const [traceId, spanId, state] = [next(32), next(16), next(lengths[3])];
    link = new OwnSpanContext(traceId, spanId, bits >>> 24, state === '' ? NO_STATE : new OwnTraceState(state), true);
  }
  const baggage: Member[] = [];
  for (let index = 0; index < members.length; index += 3) {
    const [name, value] = [next(members[index]), next(members[index + 1])];
    baggage.push([name, value, members[index + 2] === ABSENT ? undefined : next(members[index + 2])]);
  }
  return {
    session: bits & VIEW_SESSION ? session : undefined,
    sessionName: bits & VIEW_SESSION_NAME ? sessionName : undefined,
    sessionIsInbound: (bits & VIEW_SESSION_INBOUND) !== 0,
    project: bits & VIEW_PROJECT ? project : undefined,
    link,
    members: bits & VIEW_BAGGAGE ? baggage : undefined,
  };
}

/** Members of baggage that came in, from which entries are made when somebody looks. */
export interface Members {
  /** Each of them, in order. */
  all(): readonly Member[];
  /** The one of this name. */
  find(name: string): Member | undefined;
}

/** Members that Rust found in a header without an escape: positions in its text, as octets of six u16 each. */
export class PlacedMembers implements Members {
  constructor(
    private readonly text: string,
    private readonly places: Blob,
    /** So many of them are places. */
    private readonly length: number,
  ) {}

  all(): readonly Member[] {
    const members: Member[] = [];
    for (let at = 0; at < this.length; at += 12) members.push(this.member(at));
    return members;
  }

  find(name: string): Member | undefined {
    for (let at = 0; at < this.length; at += 12) {
      if (this.u16(at + 2) === name.length && this.text.startsWith(name, this.u16(at))) return this.member(at);
    }
    return undefined;
  }

  private member(at: number): Member {
    return [this.part(at), this.part(at + 4), this.u16(at + 10) === NO_PROPERTIES ? undefined : this.part(at + 8)];
  }

  private part(at: number): string {
    const from = this.u16(at);
    return this.text.slice(from, from + this.u16(at + 2));
  }

  private u16(at: number): number {
    return this.places.charCodeAt(at) | (this.places.charCodeAt(at + 1) << 8);
  }
}

/** Members that Rust takes out of a scope. */
export class ScopedMembers implements Members {
  constructor(
    private readonly scope: Scope,
    private readonly tracer: number,
  ) {}

  all(): readonly Member[] {
    return this.scope.view(this.tracer).members ?? [];
  }

  find(name: string): Member | undefined {
    return this.all().find((member) => member[0] === name);
  }
}

/** Members after entries that were there before. */
export class AddedMembers implements Members {
  constructor(
    private readonly before: readonly Member[],
    private readonly members: Members,
  ) {}

  all(): readonly Member[] {
    return [...this.before, ...this.members.all()];
  }

  find(name: string): Member | undefined {
    return this.members.find(name) ?? this.before.find((member) => member[0] === name);
  }
}

/** Baggage as OpenTelemetry's API has it, made of what came in when somebody looks. */
export class OwnBaggage implements Baggage {
  private members: Members | undefined;
  private entries: Map<string, BaggageEntry> | undefined;

  constructor(members: Members | undefined, entries: Map<string, BaggageEntry> | undefined) {
    this.members = members;
    this.entries = entries;
  }

  getEntry(key: string): BaggageEntry | undefined {
    if (this.entries === undefined) {
      const member = this.members!.find(key);
      return member === undefined ? undefined : entryOf(member);
    }
    const entry = this.entries.get(key);
    return entry === undefined ? undefined : { ...entry };
  }

  getAllEntries(): [string, BaggageEntry][] {
    return [...this.all()].map(([name, entry]) => [name, { ...entry }]);
  }

  setEntry(key: string, entry: BaggageEntry): Baggage {
    return new OwnBaggage(undefined, new Map(this.all()).set(key, entry));
  }

  removeEntry(key: string): Baggage {
    return this.removeEntries(key);
  }

  removeEntries(...keys: string[]): Baggage {
    const entries = new Map(this.all());
    for (const key of keys) entries.delete(key);
    return new OwnBaggage(undefined, entries);
  }

  clear(): Baggage {
    return new OwnBaggage(undefined, new Map());
  }

  private all(): Map<string, BaggageEntry> {
    if (this.entries === undefined) {
      this.entries = new Map(this.members!.all().map((member) => [member[0], entryOf(member)]));
      this.members = undefined;
    }
    return this.entries;
  }
}

function entryOf([, value, properties]: Member): BaggageEntry {
  return properties === undefined ? { value } : { value, metadata: { toString: () => properties } };
}

/** The entries of any baggage of the API: name, value, properties. */
export function entriesOf(baggage: Baggage | undefined): Member[] {
  if (baggage === undefined || baggage === null) return [];
  try {
    return baggage.getAllEntries().map(([name, entry]) => {
      const properties = entry.metadata?.toString();
      return [String(name), String(entry.value), properties === '' ? undefined : properties];
    });
  } catch {
    return [];
  }
}
