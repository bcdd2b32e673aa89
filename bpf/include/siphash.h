/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* SipHash-2-4 (Aumasson, Bernstein 2012) over whole 64-bit words: all that is hashed here is padded to them. */
#ifndef BATON_SIPHASH_H
#define BATON_SIPHASH_H

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define SIPROUND(v0, v1, v2, v3) do {                                        \
	v0 += v1; v1 = ROTL(v1, 13); v1 ^= v0; v0 = ROTL(v0, 32);                \
	v2 += v3; v3 = ROTL(v3, 16); v3 ^= v2;                                   \
	v0 += v3; v3 = ROTL(v3, 21); v3 ^= v0;                                   \
	v2 += v1; v1 = ROTL(v1, 17); v1 ^= v2; v2 = ROTL(v2, 32);                \
} while (0)

/* `words`: a constant, so that the loop unrolls. */
static __always_inline __u64 siphash(const __u64 *message, const int words, const __u64 key[2])
{
	__u64 v0 = key[0] ^ 0x736f6d6570736575ULL, v1 = key[1] ^ 0x646f72616e646f6dULL;
	__u64 v2 = key[0] ^ 0x6c7967656e657261ULL, v3 = key[1] ^ 0x7465646279746573ULL;

#pragma unroll
	for (int i = 0; i < words; i++) {
		v3 ^= message[i];
		SIPROUND(v0, v1, v2, v3);
		SIPROUND(v0, v1, v2, v3);
		v0 ^= message[i];
	}
	__u64 last = (__u64)(words * 8) << 56;
	v3 ^= last;
	SIPROUND(v0, v1, v2, v3);
	SIPROUND(v0, v1, v2, v3);
	v0 ^= last;
	v2 ^= 0xff;
	SIPROUND(v0, v1, v2, v3);
	SIPROUND(v0, v1, v2, v3);
	SIPROUND(v0, v1, v2, v3);
	SIPROUND(v0, v1, v2, v3);
	return v0 ^ v1 ^ v2 ^ v3;
}

#endif
