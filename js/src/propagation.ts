/** Context across processes: carriers in, carriers out. */

import { asBuffer, octetsOf } from './bytes.js';
import { Found, HEADERS, headerOf, type Changes, type Value } from './carriers.js';
import { BAGGAGE_KEY, SPAN_KEY, extended } from './context.js';
import type { Core } from './core.js';
import { exchange, type Exchange } from './exchange.js';
import type { Baggage, Context, SpanContext } from './otel-types.js';
import { parentOf, unwrapped } from './parent.js';
import type { Policy } from './policy.js';
import {
  ABSENT,
  EXTRACT_CURRENT,
  EXTRACT_CURRENT_REMOTE,
  EXTRACT_MEMBERS,
  FOUND_BAGGAGE,
  FOUND_MEMBERS,
  FOUND_NEWS,
  FOUND_SCOPE,
  FOUND_STATE,
  FOUND_STATE_GIVEN,
  HEADER_REMOVE,
  HEADER_SET,
  INJECT_ENTRIES,
  INJECT_FROM_PAGE,
  INJECT_NAMED,
  INJECT_SPAN,
  INJECT_TO,
  OP_EXTRACT,
  OP_EXTRACT_NAMED,
  OP_INJECT,
  PARENT_CALLER,
  PARENT_NONE,
  SAME_STATE,
} from './protocol.js';
import { PAGE_ORIGIN } from './runtime.js';
import {
  AddedMembers,
  OwnBaggage,
  PlacedMembers,
  Scope,
  ScopedMembers,
  Sent,
  entriesOf,
  scopeOf,
  type Member,
} from './scope.js';
import { NO_STATE, OwnSpanContext, OwnTraceState, RemoteSpan, stateText } from './span-context.js';
import { Span } from './span.js';

/** The context `base` with what was found. With a tracer's `core`, for that tracer alone and under its policy; `policy`
 * holds in place of that.
 *
 * @throws TypeError, RangeError for a policy that cannot be one
 */
export function extract(base: Context, found: Found, core: Core | undefined, policy: Policy | undefined): Context {
  const { pairs } = found;
  if (found.isEmpty()) return base;
  const outer = scopeOf(base);
  const current = base.getValue(SPAN_KEY) === undefined ? undefined : parentOf(base, undefined);
  const tree = policy?.tree;
  const handle = core === undefined ? 0 : core.handle;

  const to = exchange();
  const request = to.begin(6);
  // Members are positions in the one value that there is.
  let bits = pairs === undefined ? EXTRACT_MEMBERS : 0;
  if (current !== undefined) {
    bits |= EXTRACT_CURRENT;
    if (!(current instanceof Span) && current.isRemote === true) bits |= EXTRACT_CURRENT_REMOTE;
    request.octets(current.traceId);
  }
  if (pairs === undefined) writeValues(request, found, 4);
  if (outer !== undefined) request.octets(outer.blob);
  if (tree !== undefined) request.octets(tree);
  if (pairs !== undefined) writePairs(request, pairs);
  const { view } = request;
  view.setUint32(0, bits, true);
  if (pairs !== undefined) {
    view.setUint32(4, pairs.length, true);
    view.setUint32(8, 0, true);
    view.setUint32(12, 0, true);
  }
  view.setUint32(16, outer === undefined ? 0 : outer.blob.length, true);
  view.setUint32(20, tree === undefined ? 0 : tree.length, true);
  const length = to.call(pairs === undefined ? OP_EXTRACT : OP_EXTRACT_NAMED, handle);
  return taken(to, length, base, outer, found, handle);
}

type Request = ReturnType<Exchange['begin']>;

/** Writes the values of the three headers, and their lengths as three words from offset `at` on. */
function writeValues(request: Request, found: Found, at: number): void {
  const { traceparent, tracestate, baggage } = found;
  const from = request.at;
  // All at once is cheaper, and right where each character is a byte.
  const all = (traceparent ?? '') + (tracestate ?? '') + (baggage ?? '');
  if (all !== '' && request.plain(all) !== all.length) {
    request.at = from;
    const lengths = [traceparent, tracestate, baggage].map((text) =>
      text === undefined ? ABSENT : request.header(text),
    );
    lengths.forEach((length, index) => request.view.setUint32(at + 4 * index, length, true));
    return;
  }
  const { view } = request;
  view.setUint32(at, traceparent === undefined ? ABSENT : traceparent.length, true);
  view.setUint32(at + 4, tracestate === undefined ? ABSENT : tracestate.length, true);
  view.setUint32(at + 8, baggage === undefined ? ABSENT : baggage.length, true);
}

function writePairs(request: Request, pairs: readonly [string, Value][]): void {
  for (const [name, value] of pairs) {
    const at = request.at;
    request.need(8);
    request.at = at + 8;
    const nameLength = request.header(name);
    const from = request.at;
    if (typeof value === 'string') request.header(value);
    else request.raw(value);
    request.view.setUint32(at, nameLength, true);
    request.view.setUint32(at + 4, request.at - from, true);
  }
}

/** Writes what was found as pairs; how many they are. */
export function pairsRequest(request: Request, found: Found): number {
  const pairs =
    found.pairs ??
    HEADERS.flatMap((name): [string, Value][] => (found[name] === undefined ? [] : [[name, found[name]]]));
  writePairs(request, pairs);
  return pairs.length;
}

/** The context that an answer of EXTRACT says. */
function taken(
  to: Exchange,
  length: number,
  base: Context,
  outer: Scope | undefined,
  found: Found,
  handle: number,
): Context {
  const answer = to.word(0);
  if ((answer & (FOUND_NEWS | PARENT_NONE)) === 0) return base;
  // What follows the words at once: places of members, tracestate, blob.
  const rest = to.octets(24, length);
  const stateAt = 12 * to.word(5);
  const blobAt = stateAt + to.word(3);

  let span = base.getValue(SPAN_KEY);
  if ((answer & PARENT_CALLER) !== 0) {
    const from = to.word(2);
    const text = textAt(found, to.word(1));
    let state = NO_STATE;
    if ((answer & FOUND_STATE) !== 0) {
      const given = (answer & FOUND_STATE_GIVEN) !== 0;
      state = new OwnTraceState(given ? stateGiven(found) : rest.slice(stateAt, blobAt));
    }
    const spanId = text.slice(from + 33, from + 49);
    span = new RemoteSpan(new OwnSpanContext(text.slice(from, from + 32), spanId, answer >>> 24, state, true));
  } else if ((answer & PARENT_NONE) !== 0) {
    span = undefined;
  }

  let scope = outer;
  let baggage = base.getValue(BAGGAGE_KEY) as Baggage | undefined;
  if ((answer & FOUND_SCOPE) !== 0) {
    const blob = rest.slice(blobAt);
    if ((answer & FOUND_BAGGAGE) === 0) {
      scope = new Scope(blob, outer?.baggage, outer?.hasBaggage === true);
    } else {
      const before = baggage === undefined ? NONE : entriesOf(baggage);
      // What shows more than what came in is to be compared with it: it is not the scope's.
      const pure = before.length === 0;
      if ((answer & FOUND_MEMBERS) !== 0) {
        const members = new PlacedMembers(found.baggage!, rest, stateAt);
        const made = new OwnBaggage(pure ? members : new AddedMembers(before, members), undefined);
        scope = new Scope(blob, pure ? made : undefined, true);
        baggage = made;
      } else {
        // The members are in the scope, of which there is one that does not refer to them.
        const members = new ScopedMembers(new Scope(blob, undefined, false), handle);
        const made = new OwnBaggage(pure ? members : new AddedMembers(before, members), undefined);
        scope = new Scope(blob, pure ? made : undefined, true);
        baggage = made;
      }
    }
  }
  return extended(base, span, scope, baggage);
}

/** The value in which the ids stand, as text. */
function textAt(found: Found, index: number): string {
  return found.pairs === undefined ? found.traceparent! : textOfValue(found.pairs[index][1]);
}

/** The only tracestate that was given; blank lines beside it say nothing. */
function stateGiven(found: Found): string {
  if (found.pairs === undefined) return found.tracestate!;
  for (const [name, value] of found.pairs) {
    const text = headerOf(name) === 'tracestate' ? textOfValue(value) : '';
    if (text.trim() !== '') return text;
  }
  return '';
}

function textOfValue(value: Value): string {
  return typeof value === 'string' ? value : octetsOf(asBuffer(value), 0, value.length);
}

const NONE: Member[] = [];

/** What a context says, for a carrier that holds this. With a tracer's `core`, its session, project and source come first.
 * `url` is where it goes: the policy then says what may; without it there is no destination, and all is written. */
export function inject(context: Context, found: Found, core: Core | undefined, url: string | undefined): Changes {
  const by = core !== undefined && core.enabled ? core : undefined;
  const span = parentOf(context, by);
  let scope = scopeOf(context);
  const byHand = scope === undefined;
  if (byHand) {
    // A context made by hand from a span alone: what the span knows holds.
    const own = unwrapped(context.getValue(SPAN_KEY));
    if (own instanceof Span) scope = own.scope;
  }
  const baggage = context.getValue(BAGGAGE_KEY) as Baggage | undefined;
  // Where the API's is gone, a program has deleted it; a context by hand never had it.
  const isDeleted = baggage === undefined && !byHand && scope?.hasBaggage === true;
  const isAsItCame = baggage === undefined ? !isDeleted : baggage === scope?.baggage;
  const entries = isAsItCame ? undefined : entriesOf(baggage);
  const { pairs } = found;
  const handle = by === undefined ? 0 : by.handle;
  const isPlain = url === undefined && entries === undefined && pairs === undefined && found.isEmpty();
  const trusted = isTrusted(span) ? trustedState(span) : undefined;
  if (isPlain && trusted !== undefined) {
    const sent = scope === undefined ? by?.sent : scope.sent;
    if (sent !== undefined && sent.tracer === handle) {
      return [traceparentOf(span as Span), trusted === '' ? undefined : trusted, sent.baggage];
    }
  }

  const to = exchange();
  const request = to.begin(9);
  let bits = 0;
  let state = '';
  let stateLength = 0;
  if (span !== undefined) {
    const own = span instanceof Span;
    bits = INJECT_SPAN | ((own ? span.flags : span.traceFlags & 0xff) << 24);
    // One that core has read before goes on unchanged.
    if (trusted === undefined) state = own ? stateText(span.state) : stateOf(span);
    request.octets(span.traceId + span.spanId);
    if (state !== '') stateLength = request.header(state);
  }
  if (scope !== undefined) request.octets(scope.blob);
  let urlLength = 0;
  if (url !== undefined) {
    bits |= INJECT_TO;
    urlLength = request.plain(url);
  }
  let originLength = 0;
  if (url !== undefined && PAGE_ORIGIN !== undefined) {
    bits |= INJECT_FROM_PAGE;
    originLength = request.plain(PAGE_ORIGIN);
  }
  if (pairs === undefined) {
    writeValues(request, found, 24);
  } else {
    bits |= INJECT_NAMED;
    request.view.setUint32(24, pairs.length, true);
    request.view.setUint32(28, ABSENT, true);
    request.view.setUint32(32, ABSENT, true);
  }
  if (entries !== undefined) {
    bits |= INJECT_ENTRIES;
    for (const [name, text, properties] of entries) {
      request.text(name);
      request.text(text);
      if (properties === undefined) request.u32(ABSENT);
      else request.text(properties);
    }
  }
  if (pairs !== undefined) writePairs(request, pairs);
  const { view } = request;
  view.setUint32(0, bits, true);
  view.setUint32(4, stateLength, true);
  view.setUint32(8, scope === undefined ? 0 : scope.blob.length, true);
  view.setUint32(12, urlLength, true);
  view.setUint32(16, originLength, true);
  view.setUint32(20, entries === undefined ? 0 : entries.length, true);
  const length = to.call(OP_INJECT, handle);

  const answer = to.word(0);
  const ends = [16 + to.word(1), 16 + to.word(1) + to.word(2)];
  const sends = (answer & 3) === HEADER_SET;
  const changes: Changes = [
    sends && trusted !== undefined && knowsFormat ? traceparentOf(span as Span) : change(to, answer, 16, ends[0]),
    (answer & SAME_STATE) !== 0 ? state : sends && trusted ? trusted : change(to, answer >> 2, ends[0], ends[1]),
    change(to, answer >> 4, ends[1], length),
  ];
  if (sends && trusted !== undefined) {
    knowsFormat ||= changes[0] === traceparentOf(span as Span);
    if (isPlain && knowsFormat) {
      const sent = new Sent(handle, changes[2] ?? undefined);
      if (scope !== undefined) scope.sent = sent;
      else if (by !== undefined) by.sent = sent;
    }
  }
  return changes;
}

/** Whether `traceparentOf` was seen to say what core says. */
let knowsFormat = false;

/** Whether a span's ids and flags are of our own making, or core has read them. */
function isTrusted(span: Span | SpanContext | undefined): span is Span | OwnSpanContext {
  return span instanceof Span || (span instanceof OwnSpanContext && span.traceFlags <= 3);
}

/** The `traceparent` of a span that is trusted: as core writes it, with which it has been compared before it is used. */
function traceparentOf(span: Span | OwnSpanContext): string {
  if (span instanceof Span) return `00-${span.traceId}-${span.spanId}-${FLAGS[span.flags]}`;
  return `00-${span.traceId}-${span.spanId}-${FLAGS[span.traceFlags]}`;
}

const FLAGS = Array.from({ length: 256 }, (_, flags) => flags.toString(16).padStart(2, '0'));

/** The `tracestate` of a span if core has read it before, as it is known to be valid then. */
function trustedState(span: Span | OwnSpanContext): string | undefined {
  const state = span instanceof Span ? span.state : span.traceState;
  if (state === undefined || state === NO_STATE) return '';
  return state instanceof OwnTraceState ? state.serialize() : undefined;
}

function change(to: Exchange, what: number, from: number, end: number): string | null | undefined {
  switch (what & 3) {
    case HEADER_SET:
      return to.octets(from, end);
    case HEADER_REMOVE:
      return null;
    default:
      return undefined;
  }
}

function stateOf(span: SpanContext): string {
  return span.traceState === NO_STATE ? '' : stateText(span.traceState);
}
