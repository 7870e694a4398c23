/** Span records: what `end()` writes, in the layout that `core/src/exchange` documents. */

import type { Writer } from './bytes.js';
import {
  ENTRY_ATTRIBUTE,
  ENTRY_BUCKET,
  ENTRY_DROPPED,
  ENTRY_ERROR,
  ENTRY_EVENT,
  ENTRY_LINK,
  SHARED,
  SPAN_DESCRIPTION,
  SPAN_NOT_TO_HONEYHIVE,
  SPAN_PARENT,
  SPAN_PARENT_REMOTE,
  SPAN_SCOPE,
  SPAN_STATE,
  TREE_TEXT,
} from './protocol.js';
import { Captured, ERROR_TEXT, type Span } from './span.js';
import type { Scope } from './scope.js';
import { isValid, stateText } from './span-context.js';
import { AMPLE, writeScalar, writeTree } from './tree.js';

/** Places for texts of a chunk that its later records may refer to. */
const PLACES = 256;

/** What of a chunk its later records may refer to: the scope that was written last, and short texts: the same few keys and
 * names come again and again. */
export class Shared {
  scope: Scope | undefined = undefined;
  scopeAt = 0;
  private readonly texts: (string | undefined)[] = new Array(PLACES).fill(undefined);
  private readonly offsets = new Int32Array(PLACES);

  /** A new chunk begins. */
  clear(): void {
    this.scope = undefined;
    this.texts.fill(undefined);
  }

  /** Where a text was written before; -1 if it was not, and is at `at` from now on. */
  find(text: string, at: number): number {
    const { length } = text;
    const place =
      length === 0 ? 0 : (length * 37 + text.charCodeAt(length - 1) * 5 + text.charCodeAt(length >> 1)) & (PLACES - 1);
    if (this.texts[place] === text) return this.offsets[place];
    this.texts[place] = text;
    this.offsets[place] = at;
    return -1;
  }
}

/** A text that may have been written before. */
function writeShared(writer: Writer, text: string, shared: Shared | undefined): void {
  if (shared === undefined || text.length < 4) return writer.text(text);
  const before = shared.find(text, writer.at);
  if (before < 0) writer.text(text);
  else writer.u32((SHARED + before) >>> 0);
}

/** Writes the record of a span as it is. `shared` is of the chunk that the writer writes, from its first byte on. */
export function writeRecord(writer: Writer, span: Span, shared: Shared | undefined): void {
  const from = writer.at;
  // The fixed part, and room for ids: 4 words, 4 doubles, 64 digits.
  writer.need(112);
  const { view } = writer;
  const { core, scope, statusMessage, parentId } = span;
  let bits = (span.flags << 8) | (span.kind << 16) | (span.statusCode << 24);
  const stateOf = span.stateToWrite();
  if (parentId !== undefined) bits |= SPAN_PARENT;
  if (span.parentIsRemote) bits |= SPAN_PARENT_REMOTE;
  if (stateOf !== '') bits |= SPAN_STATE;
  if (scope !== undefined && scope.blob !== '') bits |= SPAN_SCOPE;
  if (statusMessage !== undefined) bits |= SPAN_DESCRIPTION;
  if (span.notToHoneyHive) bits |= SPAN_NOT_TO_HONEYHIVE;
  view.setUint32(from + 4, core.handle, true);
  view.setUint32(from + 8, span.instrumentation, true);
  view.setUint32(from + 12, bits, true);
  view.setFloat64(from + 16, span.startBase, true);
  view.setFloat64(from + 24, span.startOffset, true);
  view.setFloat64(from + 32, span.endBase, true);
  view.setFloat64(from + 40, span.endOffset, true);
  writer.at = from + 48;
  writer.octets(parentId === undefined ? span.traceId + span.spanId : span.traceId + span.spanId + parentId);
  writeShared(writer, span.name, shared);
  if (stateOf !== '') writeShared(writer, stateOf, shared);
  if (scope !== undefined && scope.blob !== '') writeScope(writer, scope, shared);
  if (statusMessage !== undefined) writer.text(statusMessage);

  const entries = span.entriesToWrite();
  for (let index = 0; index < entries.length; index += 2)
    writeEntry(writer, entries[index], entries[index + 1], shared);
  if (span.eventList !== undefined) writeEvents(writer, span);
  if (span.linkList !== undefined) writeLinks(writer, span);
  if (span.droppedAttributesCount + span.droppedEventsCount + span.droppedLinksCount > 0) {
    writer.u8(ENTRY_DROPPED);
    writer.u32(span.droppedAttributesCount);
    writer.u32(span.droppedEventsCount);
    writer.u32(span.droppedLinksCount);
  }
  writer.view.setUint32(from, writer.at - from - 4, true);
}

function writeScope(writer: Writer, scope: Scope, shared: Shared | undefined): void {
  if (shared !== undefined) {
    if (shared.scope === scope) return writer.u32((SHARED + shared.scopeAt) >>> 0);
    shared.scope = scope;
    shared.scopeAt = writer.at;
  }
  writer.u32(scope.blob.length);
  writer.octets(scope.blob);
}

function writeEntry(writer: Writer, key: unknown, value: unknown, shared: Shared | undefined): void {
  if (typeof key === 'string') {
    writer.u8(ENTRY_ATTRIBUTE);
    writeShared(writer, key, shared);
    if (typeof value === 'string') writer.taggedText(TREE_TEXT, value);
    else writeValue(writer, value);
  } else if (key === ERROR_TEXT) {
    writer.u8(ENTRY_ERROR);
    writer.text(value as string);
  } else {
    writer.u8(ENTRY_BUCKET);
    writer.u8(key as number);
    writer.octets((value as Captured).tree);
  }
}

/** Writes the value of an attribute: what is no scalar was captured, or copied from a list of scalars. */
function writeValue(writer: Writer, value: unknown): void {
  if (writeScalar(writer, value, Infinity)) return;
  if (value instanceof Captured) writer.octets(value.tree);
  else writeTree(writer, value, AMPLE);
}

function writeAttributes(writer: Writer, attributes: readonly unknown[]): void {
  writer.u32(attributes.length / 2);
  for (let index = 0; index < attributes.length; index += 2) {
    writer.text(attributes[index] as string);
    writeValue(writer, attributes[index + 1]);
  }
}

function writeEvents(writer: Writer, span: Span): void {
  for (const event of span.eventList!) {
    writer.u8(ENTRY_EVENT);
    writer.f64(event.base);
    writer.f64(event.offset);
    writer.text(event.name);
    writer.u32(event.dropped);
    writeAttributes(writer, event.attributes);
  }
}

const NO_IDS = '0'.repeat(48);

function writeLinks(writer: Writer, span: Span): void {
  for (const { context, attributes, dropped } of span.linkList!) {
    writer.u8(ENTRY_LINK);
    writer.octets(isValid(context) ? context.traceId + context.spanId : NO_IDS);
    writer.u8(context.traceFlags & 0xff);
    writer.u8(context.isRemote === true ? 1 : 0);
    writer.text(stateText(context.traceState));
    writer.u32(dropped);
    writeAttributes(writer, attributes);
  }
}
