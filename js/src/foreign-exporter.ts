/** Exporters of OpenTelemetry's SDK, which get spans in batches. */

import { report, type SpanProcessor } from './core.js';
import type { Span } from './span.js';

/** OpenTelemetry's `SpanExporter`. */
export interface SpanExporter {
  export(spans: any[], resultCallback: (result: { code: number; error?: Error }) => void): void;
  shutdown(): Promise<void>;
  forceFlush?(): Promise<void>;
}

/** What became of what went to a destination. */
export interface Counts {
  /** Those that wait, or are under way. */
  readonly queued: number;
  /** Those that were delivered. */
  readonly sent: number;
  /** Those that were lost, by reason. */
  readonly dropped: Readonly<Record<string, number>>;
  /** Requests that were sent again. */
  readonly retried: number;
  readonly lastError: string | null;
}

/** Spans that wait at most, and that go at once: as OpenTelemetry's SDK has them. */
const QUEUE = 2048;
const BATCH = 512;
const DELAY_MS = 1_000;

const { setTimeout, clearTimeout } = globalThis;

/** Whether this is an exporter of spans: an object with the functions of OpenTelemetry's interface. */
export function isExporter(value: any): value is SpanExporter {
  return (
    value !== null &&
    typeof value === 'object' &&
    typeof value.export === 'function' &&
    typeof value.shutdown === 'function'
  );
}

/** Gathers spans for an exporter, which is called from the event loop. */
export class ForeignExporter implements SpanProcessor {
  private readonly exporter: SpanExporter;
  private queue: Span[] = [];
  private timer: any;
  private exporting: Promise<boolean> = Promise.resolve(true);
  private underWay = 0;
  private sent = 0;
  private lastError: string | null = null;
  private readonly dropped: Record<string, number> = {};

  constructor(exporter: SpanExporter) {
    this.exporter = exporter;
  }

  onStart(): void {}

  onEnd(span: Span): void {
    if ((span.spanContext().traceFlags & 1) === 0) return;
    if (this.queue.length >= QUEUE) {
      this.drop('queue_full', 1);
      return report('spans come faster than an exporter takes them; some are dropped');
    }
    this.queue.push(span);
    if (this.queue.length >= BATCH) this.send();
    else if (this.timer === undefined) {
      this.timer = setTimeout(() => this.send(), DELAY_MS);
      this.timer.unref?.();
    }
  }

  async forceFlush(): Promise<void> {
    this.send();
    if (!(await this.exporting)) throw new Error('an exporter failed');
    await this.exporter.forceFlush?.();
  }

  async shutdown(): Promise<void> {
    this.send();
    await this.exporting;
    await this.exporter.shutdown();
  }

  /** What became of its spans, as `stats` has it of a destination. */
  counts(): Counts {
    const { sent, dropped, lastError } = this;
    return { queued: this.queue.length + this.underWay, sent, dropped: { ...dropped }, retried: 0, lastError };
  }

  private drop(reason: string, spans: number): void {
    this.dropped[reason] = (this.dropped[reason] ?? 0) + spans;
  }

  /** Sends what waits, one batch after the other. */
  private send(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    while (this.queue.length > 0) {
      const batch = this.queue.splice(0, BATCH);
      this.underWay += batch.length;
      this.exporting = this.exporting.then(() => this.exported(batch));
    }
  }

  private exported(batch: Span[]): Promise<boolean> {
    return new Promise((resolve) => {
      let isOver = false;
      const over = (error: string | undefined): void => {
        if (isOver) return;
        isOver = true;
        this.underWay -= batch.length;
        if (error === undefined) this.sent += batch.length;
        else {
          this.drop('gave_up', batch.length);
          // What an error says may hold an address or a key.
          this.lastError = error;
          report(`${error}; its spans are dropped`);
        }
        resolve(error === undefined);
      };
      try {
        this.exporter.export(batch, (result) => over(result?.code === 0 ? undefined : 'an exporter failed'));
      } catch {
        over('an exporter threw');
      }
    });
  }
}

/** Counts of several destinations together. */
export function summed(all: readonly Counts[]): Counts {
  const dropped: Record<string, number> = {};
  for (const counts of all)
    for (const [reason, count] of Object.entries(counts.dropped)) dropped[reason] = (dropped[reason] ?? 0) + count;
  const total = (one: (counts: Counts) => number): number => all.reduce((sum, counts) => sum + one(counts), 0);
  return {
    queued: total((counts) => counts.queued),
    sent: total((counts) => counts.sent),
    dropped,
    retried: total((counts) => counts.retried),
    lastError: all.findLast((counts) => counts.lastError !== null)?.lastError ?? null,
  };
}
