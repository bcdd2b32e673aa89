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

struct siphash {
	__u64 v0, v1, v2, v3;
};

static __always_inline struct siphash siphash_begin(const __u64 key[2])
{
	return (struct siphash){ key[0] ^ 0x736f6d6570736575ULL, key[1] ^ 0x646f72616e646f6dULL, key[0] ^ 0x6c7967656e657261ULL,
				 key[1] ^ 0x7465646279746573ULL };
}

static __always_inline void siphash_word(struct siphash *h, __u64 word)
{
	h->v3 ^= word;
	SIPROUND(h->v0, h->v1, h->v2, h->v3);
	SIPROUND(h->v0, h->v1, h->v2, h->v3);
	h->v0 ^= word;
}

static __always_inline __u64 siphash_end(struct siphash *h, __u32 words)
{
	siphash_word(h, (__u64)(words * 8) << 56);
	h->v2 ^= 0xff;
	SIPROUND(h->v0, h->v1, h->v2, h->v3);
	SIPROUND(h->v0, h->v1, h->v2, h->v3);
	SIPROUND(h->v0, h->v1, h->v2, h->v3);
	SIPROUND(h->v0, h->v1, h->v2, h->v3);
	return h->v0 ^ h->v1 ^ h->v2 ^ h->v3;
}

/* `words`: a constant, so that the loop unrolls. */
static __always_inline __u64 siphash(const __u64 *message, const int words, const __u64 key[2])
{
	struct siphash h = siphash_begin(key);

#pragma unroll
	for (int i = 0; i < words; i++)
		siphash_word(&h, message[i]);
	return siphash_end(&h, words);
}

#endif
