// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Role balancer, TC ingress: gives each packet to one of the live proxies, and remembers nothing of flows.
 *
 *   packet to a VIP                          verdict
 *   TCP; ICMP error about one of its flows   to the proxy of a place in the table: by neighbour, or in UDP (docs/wire.md, kind 7)
 *   fragment, malformed                      drop
 *   else                                     the host's
 *
 * Which place, says the mode; who is in it, user space.
 */
#include "abi.h"
#define COUNTERS(X) BALANCER_COUNTERS(X)
#include "counters.h"

#include "encap.h"
#include "icmp.h"
#include "slot.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 512);
	__type(key, struct endpoint);
	__type(value, __u8);
} vips SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PEERS_MAX);
	__type(key, __u32);
	__type(value, struct server);
} proxies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct spread);
} spreads SEC(".maps");

/* Packets that a CPU has sent: which batch it is at. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} sent SEC(".maps");

static __always_inline int is_vip(const struct packet *p, __be16 port)
{
	struct endpoint at = { .port = port };

	__builtin_memcpy(at.address, p->destination, 16);
	return bpf_map_lookup_elem(&vips, &at) != 0;
}

static __always_inline __u32 batch_of(const struct spread *spread)
{
	__u32 zero = 0;
	__u64 *packets = bpf_map_lookup_elem(&sent, &zero);

	return packets ? (*packets)++ / spread->batch_packets : 0;
}

/* The place of the table that the packet's proxy is in. */
static __always_inline __u32 place_of(const struct spread *spread, const struct flow_key *key)
{
	__u32 number = spread->mode == SPREAD_FLOW    ? flow_slot(key)
		       : spread->mode == SPREAD_BATCH ? batch_of(spread)
						      : bpf_get_prandom_u32();

	return number % spread->places & (SLOTS - 1);
}

static __noinline int send(struct __sk_buff *skb, const struct packet *p, const struct flow_key *key, enum counter why)
{
	struct wire_pass message = { .prefix = bpf_htonl(WIRE_PREFIX | WIRE_PASS) };
	struct spread *spread;
	struct server *proxy;
	__u32 zero = 0, index;

	if (!p || !key)
		return TC_ACT_SHOT;
	spread = bpf_map_lookup_elem(&spreads, &zero);
	if (!spread || !spread->places || !spread->batch_packets)
		return drop(COUNT_DROP_NO_PROXY);
	index = spread->proxies[place_of(spread, key)];
	proxy = bpf_map_lookup_elem(&proxies, &index);
	if (!proxy || !proxy->ifindex)
		return drop(COUNT_DROP_NO_PROXY);
	if (proxy->via == VIA_UDP && encapsulate(skb, p, proxy, spread->port, &message, sizeof(message)))
		return drop(COUNT_DROP_MALFORMED);
	count(proxy->via == VIA_UDP && why == COUNT_SENT ? COUNT_ENCAPSULATED : why);
	return send_to_node(skb, proxy);
}

static __always_inline int icmp(struct __sk_buff *skb, const struct packet *p)
{
	struct flow_key key = {};
	struct endpoint at = {};

	if (!is_vip(p, 0) || !find_embedded(skb, p, &key))
		return TC_NEXT;
	__builtin_memcpy(at.address, key.vip, 16);
	at.port = key.vip_port;
	return bpf_map_lookup_elem(&vips, &at) ? send(skb, p, &key, COUNT_ICMP_SENT) : TC_NEXT;
}

SEC("tc") int balancer(struct __sk_buff *skb)
{
	struct flow_key key = {};
	struct packet p = {};

	if (is_for_another(skb) || is_for_vlan(skb))
		return TC_NEXT;
	switch (parse_frame(skb, &p)) {
	case PARSED_TCP:
		key_from_client(&p, &key);
		return is_vip(&p, p.destination_port) ? send(skb, &p, &key, COUNT_SENT) : TC_NEXT;
	case PARSED_ICMP:
		return icmp(skb, &p);
	case PARSED_FRAGMENT:
		return is_vip(&p, 0) ? drop(COUNT_DROP_FRAGMENT) : TC_NEXT;
	case PARSED_MALFORMED:
		return is_vip(&p, 0) ? drop(COUNT_DROP_MALFORMED) : TC_NEXT;
	default:
		return TC_NEXT;
	}
}

/* Run by user space on a frame of its own, which the interface then sends. */
SEC("tc") int balancer_emit(struct __sk_buff *skb)
{
	return bpf_clone_redirect(skb, skb->ifindex, 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";
