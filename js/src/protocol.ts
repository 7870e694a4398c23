// The numbers of the exchange with Rust, as the documentation of `core/src/exchange/mod.rs` has them; a test there
// compares the two. All numbers are little-endian; a word is a u32.

/** Operations. */
export const OP_INIT = 1;
export const OP_DROP = 2;
export const OP_EXTRACT = 3;
export const OP_EXTRACT_NAMED = 4;
export const OP_SCOPE_VIEW = 5;
export const OP_SCOPE_WITH_SESSION = 6;
export const OP_INJECT = 7;
export const OP_EXPLAIN = 8;
export const OP_SPELLING = 9;
export const OP_DESTINATION = 10;
export const OP_STATS = 11;
export const OP_MEMORY = 12;
export const OP_REPORTS = 13;
export const OP_FLATTEN = 14;
export const OP_ROUTING = 15;
export const OP_INSTRUMENTATION = 16;
export const OP_USE_SESSION = 17;
export const OP_REGISTER_SESSION = 18;
export const OP_ENRICH_SESSION = 19;
export const OP_IDS = 20;
export const OP_COUNT = 21;
export const OP_RECORD_START = 22;
export const OP_RECORD = 23;
export const OP_FORGET = 24;
export const OP_TRACE_STATE = 25;
export const OP_SESSION_AT_HONEYHIVE = 26;

/** Trees: the first byte. */
export const TREE_NULL = 0;
export const TREE_FALSE = 1;
export const TREE_TRUE = 2;
export const TREE_INT = 3;
export const TREE_DOUBLE = 4;
export const TREE_TEXT = 5;
export const TREE_BYTES = 6;
export const TREE_LIST = 7;
export const TREE_MAP = 8;
/** Lists and maps in a tree, one inside the other, at most. */
export const MAX_DEPTH = 128;

/** As a length: there is none. */
export const ABSENT = 0xffffffff;
/** Plus an offset in the chunk: the text or blob that was written there before. */
export const SHARED = 0x80000000;
/** As the length of a member's properties in EXTRACT's answer: there are none. */
export const NO_PROPERTIES = 0xffff;

/** EXTRACT: bits of the request. A current span is there; it is a caller's; members are asked for. */
export const EXTRACT_CURRENT = 1;
export const EXTRACT_CURRENT_REMOTE = 2;
export const EXTRACT_MEMBERS = 4;

/** EXTRACT: bits of the answer; the trace flags are in bits 24 to 31. */
export const FOUND_SPAN = 1; // a caller's span, whose ids are told
export const FOUND_LINK = 2; // the same to be linked to: the policy starts a new trace
export const FOUND_STATE = 4; // it has a tracestate
export const FOUND_STATE_GIVEN = 8; // which is the given text as it is
export const FOUND_BAGGAGE = 16; // baggage came in
export const FOUND_SESSION = 32; // with a session that the policy accepts
export const FOUND_SCOPE = 64; // the blob is another one than the outer one
export const FOUND_MEMBERS = 128; // members are listed
export const FOUND_NEWS = 256; // anything at all was taken
export const PARENT_CALLER = 512; // the caller's span becomes the parent
export const PARENT_NONE = 1024; // none does: the current one is no longer it. Neither: the current one stays

/** SCOPE_VIEW: bits of the answer; the link's trace flags are in bits 24 to 31. */
export const VIEW_SESSION = 1;
export const VIEW_SESSION_NAME = 2;
export const VIEW_PROJECT = 4;
export const VIEW_SESSION_INBOUND = 8; // a caller sent the session, or it was registered by somebody else
export const VIEW_LINK = 16;
export const VIEW_BAGGAGE = 32;
export const VIEW_ASCII = 64; // the pool is ASCII

/** SCOPE_WITH_SESSION: bits of the request. */
export const SESSION_REGISTERED = 1;
export const SESSION_NAMED = 2;

/** INJECT: bits of the request; the trace flags are in bits 24 to 31. */
export const INJECT_SPAN = 1; // a span's context is there
export const INJECT_ENTRIES = 2; // the application's baggage is another one than the scope's
export const INJECT_TO = 4; // a URL or host: the policy says what may go there
export const INJECT_FROM_PAGE = 8; // and the origin of the page that sends
export const INJECT_NAMED = 16; // the carrier's headers are pairs

/** INJECT: what becomes of a header, 2 bits each: traceparent, tracestate, baggage. */
export const HEADER_LEAVE = 0;
export const HEADER_REMOVE = 1;
export const HEADER_SET = 2;
/** INJECT: tracestate is set to the given text, which is not in the pool. */
export const SAME_STATE = 64;

/** COUNT: what. */
export const COUNT_UNSAMPLED = 0;
export const COUNT_TOO_LARGE = 1; // spans that no chunk can hold
export const COUNT_LOST = 2; // spans for which there was no room

/** Span records: bits. Trace flags are in bits 8 to 15, the kind in 16 to 23, the status in 24 to 31. */
export const SPAN_PARENT = 1;
export const SPAN_PARENT_REMOTE = 2;
export const SPAN_STATE = 4;
export const SPAN_SCOPE = 8;
export const SPAN_DESCRIPTION = 16;
export const SPAN_NOT_TO_HONEYHIVE = 32; // it goes to every exporter but HoneyHive's

/** Span records: entries. */
export const ENTRY_ATTRIBUTE = 1;
export const ENTRY_EVENT = 2;
export const ENTRY_LINK = 3;
export const ENTRY_BUCKET = 4;
export const ENTRY_ERROR = 5;
export const ENTRY_DROPPED = 6;

/** Fields of a HoneyHive event, as ENTRY_BUCKET and FLATTEN number them. */
export const BUCKETS = ["inputs", "outputs", "metadata", "metrics", "feedback", "config", "user_properties"] as const;

/** start(): the new span is recorded. */
export const START_RECORDS = 0x100;
/** start(): the parent is remote. */
export const START_PARENT_REMOTE = 0x100;
