// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Role proxy, TC ingress: answers SYN by cookie, forwards what is bound, gives user space what needs a decision.
 *
 *   packet to a VIP                          verdict
 *   SYN                                      SYN-ACK with a cookie; nothing is kept
 *   no entry (or a reused tuple), cookie right: payload: entry PENDING, punt as fresh; keepalive probe or FIN: answered (silent.h);
 *                                            the handshake's ACK: drop
 *   no entry, cookie expired                 RST; wrong: drop
 *   PENDING, payload or FIN                  punt
 *   BOUND, pinned or wholly below boundary   forward
 *   BOUND, needs the bind header again       punt
 *   BOUND, reaches beyond the boundary       punt: a new request, or the FIN behind it
 *   a request that would be punted, but      decided here (known.h)
 *   whose bytes were seen before
 *   RESET                                    RST
 *   no entry, else                           punt, not too often: the servers are asked
 *   ICMP error about a flow                  to the server that has it (icmp.h)
 *   what would be punted or decided here,    to its owner (owner.h), which does it
 *   and is another proxy's
 */
#include "abi.h"
#define COUNTERS(X) PROXY_COUNTERS(X)
#include "counters.h"

struct settings settings SEC(".data.settings"); /* a table of their own: the next process reads the clock there */

#include "cookie.h"
#include "icmp.h"
#include "owner.h"
#include "reply.h"
#include "silent.h"

#define PACKET_MAX 65536

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct endpoint);
	__type(value, struct vip);
} vips SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct server);
} servers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct flow_key);
	__type(value, struct flow_entry);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 24);
} punts SEC(".maps");

struct scratch {
	struct punt head;
	__u8 packet[PACKET_MAX];
};

/* One a CPU (a per-CPU map's values end at 32 KB); user space sets the size. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

#include "known.h" /* uses the tables above */

static __always_inline struct vip *find_vip(const struct packet *p, __be16 port)
{
	struct endpoint at = { .port = port };

	__builtin_memcpy(at.address, p->destination, 16);
	return bpf_map_lookup_elem(&vips, &at);
}

/* Turns the SYN into its SYN-ACK, which is as long. Each option is answered only if it was offered, so the answer's options fit where the
 * SYN's were. */
static __noinline int answer_syn(struct __sk_buff *skb, struct packet *p, const struct vip *vip)
{
	struct options o;
	struct flow_key key;
	__u32 words, at = 5;
	__u64 clock = now_ms(&settings);

	if (!p || !vip)
		return TC_ACT_SHOT;
	if (p->payload_length)
		return drop(COUNT_DROP_SYN_PAYLOAD);
	words = p->tcp_header / 4;
	parse_options(skb, p, &o);
	if (!(vip->offers & OFFER_TIMESTAMPS))
		o.timestamps = 0;
	if (!(vip->offers & OFFER_SACK))
		o.sack = 0;
	if (!(vip->offers & OFFER_WSCALE))
		o.wscale = WSCALE_NONE;
	key_from_client(p, &key);

	struct reply *r = begin_reply(p, bake_cookie(&key, p->seq, &o, clock), p->seq + 1, TCP_SYN | TCP_ACK, PROMISED_WINDOW);
	if (!r)
		return TC_ACT_SHOT;
	if (o.mss)
		r->tcp[at++] = bpf_htonl(2 << 24 | 4 << 16 | vip->mss);
	if (o.timestamps) {
		r->tcp[at++] = o.sack ? bpf_htonl(0x0402080a) : bpf_htonl(0x0101080a);
		r->tcp[at++] = bpf_htonl((__u32)clock);
		r->tcp[at++] = bpf_htonl(o.tsval);
	} else if (o.sack) {
		r->tcp[at++] = bpf_htonl(0x01010402);
	}
	if (o.wscale != WSCALE_NONE)
		r->tcp[at++] = bpf_htonl(0x01030300 | PROMISED_WSCALE);
	for (int i = 5; i < 15; i++)
		if (i >= at && i < words)
			r->tcp[i] = bpf_htonl(0x01010101);
	if (at > words)
		return drop(COUNT_DROP_MALFORMED);
	r->length = words * 4;
	count(COUNT_SYN_ANSWERED);
	return send_reply(skb, p, r);
}

/* Hands the packet to user space and takes it off the road. */
static __always_inline int punt(struct __sk_buff *skb, const struct packet *p, const struct punt *head, enum counter why)
{
	__u32 cpu = bpf_get_smp_processor_id(), length = p->length;
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &cpu);

	if (!scratch)
		return drop(COUNT_DROP_RING_FULL);
	OPAQUE(length);
	if (length < sizeof(struct iphdr) || length > PACKET_MAX)
		return drop(COUNT_DROP_MALFORMED);
	scratch->head = *head;
	scratch->head.length = length;
	if (bpf_skb_load_bytes(skb, p->l3, scratch->packet, length))
		return drop(COUNT_DROP_MALFORMED);
	if (bpf_ringbuf_output(&punts, scratch, sizeof(struct punt) + length, 0))
		return drop(COUNT_DROP_RING_FULL);
	return drop(why);
}

static __always_inline int forward(struct __sk_buff *skb, const struct packet *p, const struct flow_entry *entry, enum counter why)
{
	__u32 index = entry->server;
	struct server *server = bpf_map_lookup_elem(&servers, &index);

	if (!server || !server->ifindex)
		return drop(COUNT_DROP_NO_SERVER);
	if (server->via == VIA_UDP) {
		if (encapsulate_short(skb, p, server, settings.port, WIRE_FORWARD))
			return drop(COUNT_DROP_MALFORMED);
		count(why == COUNT_FORWARDED ? COUNT_ENCAPSULATED : why);
	} else {
		count(why);
	}
	return send_to_node(skb, server);
}

/* Whether the client could have sent this acknowledgement (RFC 5961 5.2): no more than its window beyond the newest, and not long past. What
 * a blind attacker sends mostly is not. The slack allows for windows that user space has not seen. */
#define ACK_SLACK (1 << 20)

static __always_inline int is_plausible(const struct packet *p, const struct flow_entry *entry)
{
	__s32 ahead = distance(entry->newest_ack, p->ack);
	__s32 most = ((__u32)entry->window << (entry->client_wscale & 15)) + ACK_SLACK;

	return p->flags & TCP_ACK && ahead <= most && ahead >= -most;
}

/* Whether a FIN or RST is where the client's stream may end: at the boundary, or in the body that is still on its way. */
static __always_inline int may_end(const struct packet *p, const struct flow_entry *entry)
{
	__s32 left = distance(p->seq + p->payload_length, entry->boundary);

	return entry->flags & (FLOW_PINNED | FLOW_LOCAL) || (left >= 0 && distance(entry->unconfirmed, p->seq + p->payload_length) >= 0);
}

/* What the entry remembers of each packet that passes. */
static __always_inline void note(struct __sk_buff *skb, const struct packet *p, const struct flow_key *key, struct flow_entry *entry)
{
	struct options o;

	entry->seen_ns = bpf_ktime_get_ns();
	if (p->flags & (TCP_FIN | TCP_RST) && may_end(p, entry)) {
		if (!(entry->flags & FLOW_CLOSING))
			tell_change(key, entry);
		entry->flags |= FLOW_CLOSING;
	} else if (p->payload_length && entry->flags & FLOW_CLOSING)
		entry->flags &= ~FLOW_CLOSING; /* it was not the end */
	if (!is_plausible(p, entry) || distance(entry->newest_ack, p->ack) < 0)
		return;
	entry->window = p->window;
	if (entry->offers & OFFER_TIMESTAMPS) {
		parse_options(skb, p, &o);
		if (o.timestamps) {
			__u32 rtt = (__u32)(entry->seen_ns / 1000000 + settings.clock_offset_ms) - o.tsecr;
			entry->newest_tsval = o.tsval;
			if (p->ack != entry->newest_ack && rtt < entry->min_rtt_ms)
				entry->min_rtt_ms = rtt;
		}
	}
	entry->newest_ack = p->ack;
	if (!(entry->flags & FLOW_CONFIRMED) && distance(entry->header_ack, p->ack) > 0)
		entry->flags |= FLOW_CONFIRMED;
}

/* Some acknowledgement numbers tell forged packets; but with several proxies the client's newest may have gone elsewhere. */
static __always_inline int is_acceptable(const struct packet *p, const struct flow_entry *entry, struct punt *head)
{
	if (is_plausible(p, entry))
		return 1;
	head->doubt = 1;
	return has_peers() && may_ask();
}

static __always_inline int bound(struct __sk_buff *skb, const struct packet *p, struct flow_entry *entry, struct punt *head)
{
	int owner;

	note(skb, p, &head->key, entry);
	if (entry->flags & FLOW_ELSEWHERE)
		return pass_on(skb, p, entry->server, COUNT_PASSED_TO_RELAY);
	if (entry->flags & FLOW_LOCAL)
		return pass(COUNT_TO_RELAY);
	if (p->payload_length) {
		if (!(entry->flags & FLOW_CONFIRMED) && distance(entry->header_end, p->seq) < 0 &&
		    distance(entry->unconfirmed, p->seq + p->payload_length) > 0) {
			owner = find_owner(&head->key);
			return owner == OWNED ? punt(skb, p, head, COUNT_PUNTED_UNCONFIRMED) : pass_to_owner(skb, p, owner);
		}
	}
	/* A FIN behind a request that waits goes where the request goes; one right at the boundary just closes. */
	if ((p->payload_length || p->flags & TCP_FIN) && !(p->flags & TCP_RST) && !(entry->flags & FLOW_PINNED) &&
	    distance(entry->boundary, p->seq + p->payload_length) > 0) {
		owner = find_owner(&head->key);
		if (owner != OWNED)
			return pass_to_owner(skb, p, owner);
		if (!is_acceptable(p, entry, head))
			return drop(COUNT_DROP_BAD_ACK);
		int verdict = head->doubt ? -1 : stay_known(skb, p, &head->key, entry);
		if (verdict >= 0)
			return verdict;
		entry->claimed = entry->boundary;
		return punt(skb, p, head, COUNT_PUNTED_BOUNDARY);
	}
	clear_urgent(skb, p);
	return forward(skb, p, entry, COUNT_FORWARDED);
}

/* The entry of the flow whose first segment this is, on the desk. */
static __always_inline struct flow_entry *note_first(const struct packet *p, const struct punt *head)
{
	struct desk *desk = own_desk();

	if (!desk)
		return 0;
	desk->entry = (struct flow_entry){
		.state = FLOW_PENDING,
		.bind_seq = p->seq,
		.bind_ack = p->ack,
		.newest_ack = p->ack,
		.first_seq = p->seq,
		.first_ack = p->ack,
		.window = p->window,
		.mss = head->mss,
		.offers = head->offers,
		.client_wscale = head->client_wscale,
		.min_rtt_ms = 0xffffffff,
		.vip = head->vip,
		.seen_ns = bpf_ktime_get_ns(),
		.term = head->doubt ? 0 : own_term(),
	};
	return &desk->entry;
}

/* Whether the flow may have been another proxy's, or this one's before it was restarted: its handshake is older than the term. */
static __always_inline int is_of_earlier_term(const struct packet *p, const struct options *own)
{
	return distance(own_term(), own->timestamps ? own->tsecr : cookie_since(p->ack - 1)) <= 0;
}

/* The first segment of a new flow, if it opens the cookie; -1 if not. */
static __always_inline int begin(struct __sk_buff *skb, struct packet *p, const struct flow_key *key, struct flow_entry *old, struct punt *head)
{
	struct options o = {}, own;

	if (old && old->first_seq == p->seq && old->first_ack == p->ack)
		return -1; /* a copy of the segment that began the connection which is there */
	if (!open_cookie(key, p->seq - 1, p->ack - 1, &o))
		return -1;
	/* The handshake's ACK. On a tuple that is used again it must not reach the old connection's server, which would answer with a reset. */
	if (!p->payload_length)
		return p->flags & TCP_FIN ? answer_fin(skb, p, &o) : drop(COUNT_DROP_BARE_ACK);
	int owner = find_owner(key);
	if (owner != OWNED)
		return pass_to_owner(skb, p, owner);
	parse_options(skb, p, &own);
	head->fresh = 1;
	head->doubt = is_of_earlier_term(p, &own);
	head->mss = o.mss;
	head->client_wscale = o.wscale == WSCALE_NONE ? 0 : o.wscale;
	head->offers = (own.timestamps ? OFFER_TIMESTAMPS : 0) | (o.sack ? OFFER_SACK : 0) | (o.wscale == WSCALE_NONE ? 0 : OFFER_WSCALE);
	if (!old || is_over(old)) {
		struct flow_entry *entry = note_first(p, head);
		int verdict = !entry ? TC_ACT_SHOT : head->doubt ? -1 : bind_known(skb, p, key, &own, entry, old);

		if (verdict >= 0)
			return verdict;
		if (!old && bpf_map_update_elem(&flows, key, entry, BPF_NOEXIST))
			return drop(COUNT_DROP_TABLE_FULL);
	}
	return punt(skb, p, head, COUNT_PUNTED_NEW);
}

/* No entry, no cookie that is good. A server may know the flow: other proxies, or this one before it was restarted, may have bound it. */
static __always_inline int unknown(struct __sk_buff *skb, struct packet *p, struct punt *head)
{
	struct options offered = {};
	int owner = find_owner(&head->key);

	if (owner != OWNED)
		return pass_to_owner(skb, p, owner);
	if (!(p->flags & TCP_RST) && is_expired(p, &head->key))
		return reset(skb, p, COUNT_EXPIRED_ANSWERED);
	if (!p->payload_length && p->flags == TCP_ACK && open_cookie(&head->key, p->seq - 2, p->ack - 2, &offered))
		return drop(COUNT_DROP_BARE_ACK); /* the last one of a connection without a request (silent.h) */
	if (p->payload_length && !(p->flags & TCP_RST))
		are_guessed(1);
	head->doubt = 1;
	if (may_ask())
		return punt(skb, p, head, COUNT_PUNTED_UNKNOWN);
	return drop(p->payload_length && !(p->flags & TCP_RST) ? COUNT_DROP_BAD_COOKIE : COUNT_DROP_NO_FLOW);
}

/* The connection was reset, and the client has not heard or not believed it (RFC 5961 3.2): its own acknowledgement number is the right one. */
static __always_inline int answer_reset(struct __sk_buff *skb, struct packet *p, struct flow_entry *entry)
{
	if (p->flags & TCP_RST)
		return drop(COUNT_DROP_NO_FLOW);
	entry->seen_ns = bpf_ktime_get_ns();
	return reset(skb, p, COUNT_RESET_ANSWERED);
}

/* Whether the packet was sent later than all that the entry remembers: by its clock; in the same millisecond, or without one, by the client's
 * initial sequence number, which grows with time (RFC 6528 3, RFC 6191 2). */
static __noinline int is_later(struct __sk_buff *skb, const struct packet *p, const struct flow_entry *entry)
{
	struct options own;
	__s32 later = 0;

	if (!p || !entry)
		return 0;
	if (entry->offers & OFFER_TIMESTAMPS) {
		parse_options(skb, p, &own);
		if (own.timestamps)
			later = distance(entry->newest_tsval, own.tsval);
	}
	return later > 0 || (later == 0 && distance(entry->first_seq, p->seq) > 0);
}

/* Whether the packet may be of a new connection on the addresses of the one that is there. The mark alone is not enough: it is lost when user
 * space writes the entry just after the SYN. The acknowledgement number says it then; but so it does of what an earlier connection sent, and
 * comes late. */
static __always_inline int may_be_new(struct __sk_buff *skb, const struct packet *p, const struct flow_entry *entry)
{
	return entry->flags & FLOW_REUSED || (!is_plausible(p, entry) && is_later(skb, p, entry));
}

static __always_inline int to_vip(struct __sk_buff *skb, struct packet *p, const struct vip *vip)
{
	struct punt head = { .vip = vip->index };
	struct flow_entry *entry;

	key_from_client(p, &head.key);
	entry = bpf_map_lookup_elem(&flows, &head.key);
	if (p->flags & TCP_SYN) {
		if (p->flags & (TCP_ACK | TCP_RST | TCP_FIN))
			return drop(COUNT_DROP_BAD_FLAGS);
		if (entry)
			entry->flags |= FLOW_REUSED; /* perhaps: anyone can send a SYN */
		if (!is_ready())
			return drop(COUNT_DROP_NOT_NOW);
		return answer_syn(skb, p, vip);
	}
	if (!(p->flags & (TCP_ACK | TCP_RST)))
		return drop(COUNT_DROP_BAD_FLAGS);
	if ((!entry || may_be_new(skb, p, entry)) && !(p->flags & TCP_RST)) {
		int verdict = answer_probe(skb, p, &head.key, entry);
		if (verdict < 0)
			verdict = begin(skb, p, &head.key, entry, &head);
		if (verdict >= 0)
			return verdict;
	}
	/* What a process that is gone was to decide, another proxy may have decided meanwhile. */
	if (!entry || (entry->state == FLOW_PENDING && entry->term != own_term() && !p->payload_length && !(p->flags & (TCP_FIN | TCP_RST))))
		return unknown(skb, p, &head);
	if (entry->state == FLOW_RESET)
		return answer_reset(skb, p, entry);
	if (entry->state == FLOW_BOUND)
		return bound(skb, p, entry, &head);
	entry->seen_ns = bpf_ktime_get_ns();
	if ((!p->payload_length && !(p->flags & TCP_FIN)) || p->flags & TCP_RST)
		return drop(COUNT_DROP_UNDECIDED);
	int owner = find_owner(&head.key);
	if (owner != OWNED)
		return pass_to_owner(skb, p, owner);
	return is_acceptable(p, entry, &head) ? punt(skb, p, &head, COUNT_PUNTED_PENDING) : drop(COUNT_DROP_BAD_ACK);
}

/* Not for a VIP. Nothing else is passed on between proxies. */
static __always_inline int not_ours(const struct packet *p) { return p && p->passed ? drop(COUNT_DROP_MALFORMED) : TC_NEXT; }

/* What routers and the client's host say about packets of a flow belongs to the server that sent them: it is whose path is too narrow. */
static __noinline int icmp(struct __sk_buff *skb, const struct packet *p)
{
	struct flow_key key = {};
	struct endpoint at = {};
	struct flow_entry *entry;

	if (!p || !find_vip(p, 0) || !find_embedded(skb, p, &key))
		return not_ours(p);
	__builtin_memcpy(at.address, key.vip, 16);
	at.port = key.vip_port;
	if (!bpf_map_lookup_elem(&vips, &at))
		return not_ours(p); /* of the host's own connections */
	entry = bpf_map_lookup_elem(&flows, &key);
	if (!entry || entry->state != FLOW_BOUND) {
		int owner = find_owner(&key);
		return owner < 0 ? drop(COUNT_DROP_NO_FLOW) : pass_to_owner(skb, p, owner);
	}
	if (entry->flags & FLOW_ELSEWHERE)
		return pass_on(skb, p, entry->server, COUNT_PASSED_TO_RELAY);
	return entry->flags & FLOW_LOCAL ? pass(COUNT_TO_RELAY) : forward(skb, p, entry, COUNT_ICMP_FORWARDED);
}

static __noinline int look(struct __sk_buff *skb, struct packet *p) { return p ? parse_frame(skb, p) : PARSED_OTHER; }

SEC("tc") int proxy(struct __sk_buff *skb)
{
	struct packet p = {};
	struct vip *vip;
	int what;

	if (is_for_another(skb) || is_for_vlan(skb))
		return TC_NEXT;
	what = look(skb, &p);
	if (what == PARSED_UDP && take_passed(skb, &p))
		what = look(skb, &p);
	switch (what) {
	case PARSED_TCP:
		vip = find_vip(&p, p.destination_port);
		return vip ? to_vip(skb, &p, vip) : not_ours(&p);
	case PARSED_ICMP:
		return icmp(skb, &p);
	case PARSED_FRAGMENT:
		return find_vip(&p, 0) ? drop(COUNT_DROP_FRAGMENT) : not_ours(&p);
	case PARSED_MALFORMED:
		return find_vip(&p, 0) ? drop(COUNT_DROP_MALFORMED) : not_ours(&p);
	default:
		return not_ours(&p);
	}
}

char _license[] SEC("license") = "Dual BSD/GPL";
