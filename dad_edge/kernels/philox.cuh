// Gaussian noise from Philox4x32-10 and Box-Muller. dad_edge/model/philox.py defines it; this is the same
// definition: equal integers, and normals that differ by a few units in the last place of float32.
#pragma once

struct Philox {
    unsigned x[4];
};

// One Philox4x32-10 block: 128 bits of counter and 64 bits of key to four uniform words.
__device__ inline Philox philox4x32(Philox counter, unsigned key0, unsigned key1) {
    const unsigned m0 = 0xD2511F53u, m1 = 0xCD9E8D57u;
    Philox c = counter;
    for (int round = 0; round < 10; round++) {
        Philox next;
        next.x[0] = __umulhi(m1, c.x[2]) ^ c.x[1] ^ key0;
        next.x[1] = m1 * c.x[2];
        next.x[2] = __umulhi(m0, c.x[0]) ^ c.x[3] ^ key1;
        next.x[3] = m0 * c.x[0];
        c = next;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return c;
}

// The four standard normals of elements 4 * block .. 4 * block + 3 of one image and one λ.
__device__ inline void philox_normal4(unsigned block, unsigned lambda_index,
                                      unsigned long long frame_counter, unsigned long long seed,
                                      float normal[4]) {
    const Philox counter = {{block, lambda_index, (unsigned)frame_counter,
                             (unsigned)(frame_counter >> 32)}};
    const Philox words = philox4x32(counter, (unsigned)seed, (unsigned)(seed >> 32));
    float u[4];
    for (int i = 0; i < 4; i++) {
        u[i] = ((float)(words.x[i] >> 9) + 0.5f) * 0x1p-23f;  // exact, inside (0, 1)
    }
    for (int i = 0; i < 4; i += 2) {
        // sincospi takes 2 u exactly, where 2 pi u would be rounded before the sine is taken.
        float sine, cosine;
        sincospif(2.0f * u[i + 1], &sine, &cosine);
        const float radius = sqrtf(-2.0f * logf(u[i]));
        normal[i] = radius * cosine;
        normal[i + 1] = radius * sine;
    }
}
