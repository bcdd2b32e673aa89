/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Follows the answers that a server sends, by sequence number: where each ends (RFC 9112 6.3), so that a flow is moved only when nothing is
 * owed. Heads, chunk sizes and trailers are read byte by byte, bodies are stepped over. What it does not understand makes the flow
 * opaque: never complete, so never moved. */
#ifndef BATON_FRAMING_H
#define BATON_FRAMING_H

#include "access.h"
#include "packet.h"

enum framing_phase {
	PHASE_STATUS = 0, /* "HTTP/1.1 200 OK"; between answers, column is 0 */
	PHASE_FIELD,      /* a header line, or the empty line */
	PHASE_LENGTH,     /* the value of Content-Length */
	PHASE_CODING,     /* the value of Transfer-Encoding */
	PHASE_BODY,       /* `length` bytes to go */
	PHASE_SIZE,       /* hexadecimal chunk size */
	PHASE_EXTENSION,  /* rest of the chunk size's line */
	PHASE_CHUNK,      /* `length` bytes to go, CR LF included */
	PHASE_TRAILER,
};

enum framing_body {
	BODY_LENGTH = 1,
	BODY_CHUNKED = 2, /* the last transfer coding: counts more than a length */
	BODY_CODED = 4,   /* another one is last: until the connection closes */
};

enum field_name { NAME_LENGTH = 1, NAME_CODING = 2, NAME_ALL = 3 };

#define LENGTH_COLON 14 /* in "content-length:" */
#define CODING_COLON 17 /* in "transfer-encoding:" */
#define COLUMN_MAX 60000
#define LENGTH_MAX (1ULL << 56)
#define WINDOW 64 /* bytes read at a time; a power of two */

const volatile char length_name[32] = "content-length:";
const volatile char coding_name[32] = "transfer-encoding:";
const volatile char coding_value[8] = "chunked";
const volatile char protocol_name[8] = "HTTP/1.";

struct framing_read {
	struct __sk_buff *skb;
	struct served_flow *flow;
	__u32 base;      /* sequence number of the payload's first byte */
	__u32 length;    /* of the payload */
	__u32 offset;    /* of the payload in the frame */
	__u32 window_at; /* payload offset of window[0]; ~0 nothing read yet */
	__u8 window[WINDOW];
};

static __always_inline void line_begins(struct framing *f, __u8 phase)
{
	f->phase = phase;
	f->column = 0;
	f->names = NAME_ALL;
}

static __always_inline void answer_ends(struct served_flow *flow)
{
	struct framing *f = &flow->framing;

	f->answers++;
	access_tell(flow, ACCESS_ANSWER, f->next);
	f->body = 0;
	f->status = 0;
	f->length = 0;
	line_begins(f, PHASE_STATUS);
}

/* The empty line after the head: what follows? 0, or -1 when it cannot be known. */
static __always_inline int head_ends(struct served_flow *flow)
{
	struct framing *f = &flow->framing;
	__u32 behind = flow->requests - f->answers - 1; /* requests after the one that this answers */

	if (f->status == 101 || f->status >= 200)
		access_head(flow);
	if (f->status == 101 || f->answers == flow->requests)
		return -1; /* no HTTP any more, or an answer that nobody asked for */
	if (f->status < 200) { /* interim: the answer is still to come */
		f->body = 0;
		f->status = 0;
		line_begins(f, PHASE_STATUS);
	} else if (f->status == 204 || f->status == 304 || (behind < 32 && flow->bodiless >> (behind & 31) & 1)) {
		answer_ends(flow);
	} else if (f->body & BODY_CHUNKED) {
		f->length = 0;
		line_begins(f, PHASE_SIZE);
	} else if (f->body == BODY_LENGTH) {
		if (f->length)
			f->phase = PHASE_BODY;
		else
			answer_ends(flow);
	} else {
		return -1; /* until the connection closes */
	}
	return 0;
}

static __always_inline int framing_byte(struct served_flow *flow, __u8 c)
{
	struct framing *f = &flow->framing;
	__u32 column = f->column;
	__u8 lower = c >= 'A' && c <= 'Z' ? c | 0x20 : c;

	if (f->column >= COLUMN_MAX)
		return -1;
	switch (f->phase) {
	case PHASE_STATUS:
		if (c == '\n') {
			if (column < 12)
				return -1;
			line_begins(f, PHASE_FIELD);
			return 0;
		}
		if (column < 7 && c != protocol_name[column & 7])
			return -1;
		if (column >= 9 && column < 12) {
			if (c < '0' || c > '9')
				return -1;
			f->status = f->status * 10 + (c - '0');
		}
		f->column++;
		return 0;
	case PHASE_FIELD:
		if (c == '\r')
			return 0;
		if (c == '\n') {
			if (!column)
				return head_ends(flow);
			line_begins(f, PHASE_FIELD);
			return 0;
		}
		if (f->names && column < 32) {
			if (lower != (__u8)length_name[column & 31])
				f->names &= ~NAME_LENGTH;
			if (lower != (__u8)coding_name[column & 31])
				f->names &= ~NAME_CODING;
		}
		f->column++;
		if (f->names & NAME_LENGTH && column == LENGTH_COLON) {
			f->phase = PHASE_LENGTH;
			f->body |= BODY_LENGTH;
			f->length = 0;
		} else if (f->names & NAME_CODING && column == CODING_COLON) {
			line_begins(f, PHASE_CODING);
		}
		return 0;
	case PHASE_LENGTH:
		if (c == '\n')
			line_begins(f, PHASE_FIELD);
		else if (c >= '0' && c <= '9' && f->length < LENGTH_MAX)
			f->length = f->length * 10 + (c - '0');
		else if (c != ' ' && c != '\t' && c != '\r')
			return -1;
		return 0;
	case PHASE_CODING: /* a list: column counts the last one's bytes that are those of "chunked" */
		if (c == ' ' || c == '\t' || c == '\r')
			return 0;
		if (c == '\n') {
			f->body = (f->body & BODY_LENGTH) | (column == 7 ? BODY_CHUNKED : BODY_CODED);
			line_begins(f, PHASE_FIELD);
		} else if (c == ',') {
			f->column = 0;
		} else {
			f->column = column < 7 && lower == (__u8)coding_value[column & 7] ? column + 1 : 8;
		}
		return 0;
	case PHASE_SIZE:
		if (c >= '0' && c <= '9') {
			f->length = f->length * 16 + (c - '0');
		} else if (lower >= 'a' && lower <= 'f') {
			f->length = f->length * 16 + (lower - 'a' + 10);
		} else if (c == '\n' && column) {
			goto size_ends;
		} else if (column) {
			f->phase = PHASE_EXTENSION;
			return 0;
		} else {
			return -1;
		}
		f->column++;
		return f->length < LENGTH_MAX ? 0 : -1;
	case PHASE_EXTENSION:
		if (c != '\n')
			return 0;
	size_ends:
		if (f->length) {
			f->length += 2;
			f->phase = PHASE_CHUNK;
		} else {
			line_begins(f, PHASE_TRAILER);
		}
		return 0;
	case PHASE_TRAILER:
		if (c == '\r')
			return 0;
		if (c != '\n')
			f->column++;
		else if (column)
			line_begins(f, PHASE_TRAILER);
		else
			answer_ends(flow);
		return 0;
	}
	return -1;
}

/* Whether the rest of the line means nothing: most bytes of a head are such. */
static __always_inline int is_dull(const struct framing *f)
{
	return (f->phase == PHASE_FIELD && !f->names) || (f->phase == PHASE_STATUS && f->column >= 12);
}

/* How many bytes of the window, from `from` on, come before a line's end or the end of what there is. */
static __always_inline __u32 rest_of_line(const struct framing_read *r, __u32 from)
{
	__u32 there = r->length - r->window_at, bytes = 0;

	for (; bytes < WINDOW; bytes++) {
		__u32 at = from + bytes;
		if (at >= WINDOW || at >= there || r->window[at & (WINDOW - 1)] == '\n')
			break;
	}
	return bytes;
}

static long framing_step(__u64 i, struct framing_read *r)
{
	struct framing *f = &r->flow->framing;
	__u32 at = f->next - r->base;

	if (at >= r->length || r->flow->flags & SERVED_OPAQUE)
		return 1;
	if (f->phase == PHASE_BODY || f->phase == PHASE_CHUNK) {
		__u32 here = r->length - at;

		if (here > f->length)
			here = f->length;
		f->next += here;
		f->length -= here;
		if (f->length)
			return 1;
		if (f->phase == PHASE_BODY)
			answer_ends(r->flow);
		else
			line_begins(f, PHASE_SIZE);
		return 0;
	}
	if (at - r->window_at >= WINDOW) {
		__u32 bytes = r->length - at;

		if (bytes > WINDOW)
			bytes = WINDOW;
		OPAQUE(bytes);
		if (bytes == 0 || bytes > WINDOW || bpf_skb_load_bytes(r->skb, r->offset + at, r->window, bytes)) {
			r->flow->flags |= SERVED_OPAQUE;
			return 1;
		}
		r->window_at = at;
	}
	__u32 in_window = (at - r->window_at) & (WINDOW - 1);
	__u32 dull = is_dull(f) && f->column < COLUMN_MAX ? rest_of_line(r, in_window) : 0;
	if (dull) {
		f->next += dull;
		f->column += dull;
		return 0;
	}
	f->next++;
	if (framing_byte(r->flow, r->window[in_window])) {
		r->flow->flags |= SERVED_OPAQUE;
		return 1;
	}
	return 0;
}

/* Accounts for a segment that the server sends. */
static __always_inline void follow(struct __sk_buff *skb, const struct packet *p, struct served_flow *flow)
{
	struct framing_read read = {
		.skb = skb, .flow = flow, .base = p->seq, .length = p->payload_length, .offset = p->payload, .window_at = 0x80000000,
	};

	if (!(flow->flags & SERVED_OPAQUE) && distance(flow->framing.next, p->seq + p->payload_length) > 0) {
		if (distance(flow->framing.next, p->seq) > 0)
			flow->flags |= SERVED_OPAQUE; /* bytes that were not seen */
		else
			bpf_loop(1 << 17, framing_step, &read, 0);
	}
	access_sent(flow, p->seq + p->payload_length);
}

/* Every request is answered, and the client has acknowledged up to `acknowledged`. */
static __always_inline int complete(const struct served_flow *flow, __u32 acknowledged)
{
	const struct framing *f = &flow->framing;

	return !(flow->flags & (SERVED_OPAQUE | SERVED_PINNED)) && f->phase == PHASE_STATUS && !f->column && f->answers == flow->requests &&
	       f->next == acknowledged;
}

#endif
