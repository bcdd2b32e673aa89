/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Ownership is by slot. Which slot a flow is in, here and in flow/src/ownership.rs; who has which slot is user space's to say. */
#ifndef BATON_SLOT_H
#define BATON_SLOT_H

#include "packet.h"
#include "siphash.h"

#define SLOT_WORDS ((sizeof(struct flow_key) + 4) / 8)

/* The key is public: all nodes must agree, also on flows that they have no secret of. */
static __always_inline __u32 flow_slot(const struct flow_key *key)
{
	const __u64 public[2] = { 0, 0 };
	__u64 words[SLOT_WORDS];

	words[SLOT_WORDS - 1] = 0;
	__builtin_memcpy(words, key, sizeof(*key));
	return siphash(words, SLOT_WORDS, public) & (SLOTS - 1);
}

#endif
