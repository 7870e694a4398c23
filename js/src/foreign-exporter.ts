/** Exporters of OpenTelemetry's SDK, which get spans in batches. */

import { report, type SpanProcessor } from './core.js';
import type { Span } from './span.js';

/** OpenTelemetry's `SpanExporter`. */
export interface SpanExporter {
  export(spans: any[], resultCallback: (result: { code: number; error?: Error }) => void): void;
  shutdown(): Promise<void>;
  forceFlush?(): Promise<void>;
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

  constructor(exporter: SpanExporter) {
    this.exporter = exporter;
  }

  onStart(): void {}

  onEnd(span: Span): void {
    if ((span.spanContext().traceFlags & 1) === 0) return;
    if (this.queue.length >= QUEUE) return report('spans come faster than an exporter takes them; some are dropped');
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

  /** Sends what waits, one batch after the other. */
  private send(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    while (this.queue.length > 0) {
      const batch = this.queue.splice(0, BATCH);
      this.exporting = this.exporting.then(() => this.exported(batch));
    }
  }

  private exported(batch: Span[]): Promise<boolean> {
    return new Promise((resolve) => {
      try {
        this.exporter.export(batch, (result) => {
          if (result.code !== 0) report('an exporter failed; its spans are dropped');
          resolve(result.code === 0);
        });
      } catch {
        report('an exporter threw; its spans are dropped');
        resolve(false);
      }
    });
  }
}
