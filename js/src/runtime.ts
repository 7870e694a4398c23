/** What differs between runtimes. This is Node's, and that of others which have its modules; the build puts
 * `edge/runtime.ts` in its place for Workers and browsers. */

import { AsyncLocalStorage, executionAsyncResource } from 'node:async_hooks';
import { subscribe } from 'node:diagnostics_channel';
import { EventEmitter } from 'node:events';

import type { Context } from './otel-types.js';

/** Where the current context is kept: as `AsyncLocalStorage` does. */
export interface Storage {
  getStore(): Context | undefined;
  run<A extends unknown[], R>(context: Context, fn: (...args: A) => R, ...args: A): R;
  enterWith(context: Context): void;
}

export const storage: Storage = new AsyncLocalStorage<Context>();

/** Whether what is done belongs to a request: connections, timers and random numbers are there in requests only, and one
 * process serves strangers. A tracer then has no session of its own, and each request has a buffer. */
export const PER_REQUEST = false;

/** Whether the clock may stand still while a program computes. */
export const CLOCK_FREEZES = false;

/** What a service is called that has no name. */
export const UNNAMED_SERVICE = 'unknown_service:node';

/** The origin of the page that sends, in browsers. */
export const PAGE_ORIGIN: string | undefined = undefined;

const { performance } = globalThis;

/** What is to be added to readings of the clock to get milliseconds since 1970, until the wall clock says otherwise. */
export function clockOrigin(): number {
  return performance.timeOrigin;
}

/** Reads a clock that never goes back, in milliseconds. */
export function reading(): number {
  return performance.now();
}

/** All variables of the environment. */
export function variables(): Record<string, string | undefined> {
  return process.env;
}

/** The file of the program that runs. */
export function programName(): string | undefined {
  return process.argv[1];
}

/** What the code that runs was called for: the same object for all requests of a connection, where a runtime keeps contexts
 * by it. */
export function execution(): object | undefined {
  // Bun has it, and warns of it.
  return (globalThis as any).Bun === undefined ? executionAsyncResource?.() : undefined;
}

/** Calls back when a server begins with a request, before anybody else sees it. */
export function onRequestStart(listener: () => void): void {
  subscribe('http.server.request.start', listener);
}

/** What stands for an object of Node's that is a connection or leads to one; undefined for all others. Their fields hold
 * headers in raw forms, keys of certificates, and what was sent to others. */
export function standInFor(value: any): object | string | undefined {
  if (!(value instanceof EventEmitter)) return undefined;
  if (value instanceof require('node:stream').Stream) {
    const { headers } = value as any;
    if (headers === null || typeof headers !== 'object') return nameOf(value);
    // A request that came in, of HTTP/1 or 2, or a response to one that went out. Express cuts off what routers are mounted at.
    const { method, originalUrl, url, statusCode } = value as any;
    return { method: method ?? undefined, url: (originalUrl ?? url) || undefined, status: statusCode ?? undefined, headers };
  }
  const { Agent } = require('node:http');
  const { Server } = require('node:net');
  return value instanceof Agent || value instanceof Server ? nameOf(value) : undefined;
}

function nameOf(value: object): string {
  return `[${value.constructor?.name || 'object'}]`;
}

/** `@opentelemetry/api`.
 *
 * @throws if it is not installed
 */
export function requireApi(): any {
  // As bundlers know it.
  return require('@opentelemetry/api');
}
