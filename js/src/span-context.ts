/** Span contexts, and spans of other processes. */

import { exchange } from './exchange.js';
import type {
  ApiSpan,
  Attributes,
  AttributeValue,
  Exception,
  Link,
  SpanContext,
  SpanStatus,
  TimeInput,
  TraceState,
} from './otel-types.js';
import { OP_TRACE_STATE } from './protocol.js';

/** A `tracestate` as it came in, every legal key included. */
export class OwnTraceState implements TraceState {
  private readonly text: string;

  constructor(text: string) {
    this.text = text;
  }

  /** With this member, in front. One that is not legal changes nothing. */
  set(key: string, value: string): TraceState {
    return this.changed(1, key, value);
  }

  /** Without this member. */
  unset(key: string): TraceState {
    return this.changed(2, key, '');
  }

  get(key: string): string | undefined {
    return ask(0, this.text, String(key), '');
  }

  serialize(): string {
    return this.text;
  }

  private changed(what: number, key: string, value: string): TraceState {
    const text = ask(what, this.text, String(key), String(value));
    return text === undefined || text === this.text ? this : new OwnTraceState(text);
  }
}

function ask(what: number, state: string, key: string, value: string): string | undefined {
  const to = exchange();
  const request = to.begin(1);
  request.text(state);
  request.text(key);
  request.text(value);
  request.view.setUint32(0, what, true);
  const length = to.call(OP_TRACE_STATE, 0);
  return to.word(0) === 1 ? to.octets(8, length) : undefined;
}

/** The text of a trace state, ours or another one; empty if it has none. */
export function stateText(state: TraceState | undefined): string {
  if (state === undefined || state === null) return '';
  try {
    const text = state.serialize();
    return typeof text === 'string' ? text : '';
  } catch {
    return '';
  }
}

/** What of a span travels. */
export class OwnSpanContext implements SpanContext {
  traceId: string;
  spanId: string;
  traceFlags: number;
  traceState: TraceState;
  isRemote: boolean;

  constructor(traceId: string, spanId: string, flags: number, state: TraceState, isRemote: boolean) {
    this.traceId = traceId;
    this.spanId = spanId;
    this.traceFlags = flags;
    this.traceState = state;
    this.isRemote = isRemote;
  }
}

/** The trace state of those that have none. */
export const NO_STATE: TraceState = new OwnTraceState('');

const TRACE_ID = /^(?!0{32})[0-9a-f]{32}$/i;
const SPAN_ID = /^(?!0{16})[0-9a-f]{16}$/i;

/** Whether these are the ids of a span. */
export function isValid(context: SpanContext | undefined | null): context is SpanContext {
  return (
    context instanceof OwnSpanContext || (!!context && TRACE_ID.test(context.traceId) && SPAN_ID.test(context.spanId))
  );
}

/** A span context of anybody's, read once; undefined if it cannot be read. */
export function copied(context: SpanContext): SpanContext | undefined {
  if (context instanceof OwnSpanContext && context.traceState instanceof OwnTraceState) return context;
  try {
    const { traceId, spanId, traceFlags, isRemote, traceState } = context;
    const text = stateText(traceState);
    return {
      traceId: String(traceId),
      spanId: String(spanId),
      traceFlags: typeof traceFlags === 'number' ? traceFlags & 0xff : 0,
      ...(typeof isRemote === 'boolean' && { isRemote }),
      ...(text !== '' && { traceState: new OwnTraceState(text) }),
    };
  } catch {
    return undefined;
  }
}

/** The span of another process, as the parent of spans here. It records nothing. */
export class RemoteSpan implements ApiSpan {
  private readonly context: SpanContext;

  constructor(context: SpanContext) {
    this.context = context;
  }

  spanContext(): SpanContext {
    return this.context;
  }

  setAttribute(_key: string, _value: AttributeValue): this {
    return this;
  }

  setAttributes(_attributes: Attributes): this {
    return this;
  }

  addEvent(_name: string, _attributesOrTime?: Attributes | TimeInput, _time?: TimeInput): this {
    return this;
  }

  addLink(_link: Link): this {
    return this;
  }

  addLinks(_links: Link[]): this {
    return this;
  }

  setStatus(_status: SpanStatus): this {
    return this;
  }

  updateName(_name: string): this {
    return this;
  }

  end(_time?: TimeInput): void {}

  isRecording(): boolean {
    return false;
  }

  recordException(_exception: Exception, _time?: TimeInput): void {}
}

/** The span that there is where nothing is recorded. */
export const NO_SPAN = new RemoteSpan({ traceId: '0'.repeat(32), spanId: '0'.repeat(16), traceFlags: 0 });
