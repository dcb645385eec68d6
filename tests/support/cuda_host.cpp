// The unchanged kernels as a host library for tests/support/kernel_host.py, with one launcher each.
#include "cuda_shim.h"

#include "group_norm.cu"
#include "inject.cu"
#include "pool.cu"
#include "restore.cu"

// The integers and the normals themselves, which no kernel hands out.
extern "C" __global__ void noise_f32(unsigned *words, float *normals, unsigned blocks,
                                     unsigned lambda_index, unsigned long long frame_counter,
                                     unsigned long long seed) {
    const unsigned block = blockIdx.x * blockDim.x + threadIdx.x;
    if (block >= blocks) return;
    const Philox counter = {{block, lambda_index, (unsigned)frame_counter,
                             (unsigned)(frame_counter >> 32)}};
    const Philox x = philox4x32(counter, (unsigned)seed, (unsigned)(seed >> 32));
    for (int i = 0; i < 4; i++) words[4 * block + i] = x.x[i];
    philox_normal4(block, lambda_index, frame_counter, seed, normals + 4 * block);
}

extern "C" __global__ void half_round_trip(const float *from, Half *to, float *back, int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    set(to[i], from[i]);
    back[i] = to_float(to[i]);
}

extern "C" __global__ void bfloat_round_trip(const float *from, BFloat *to, float *back, int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    set(to[i], from[i]);
    back[i] = to_float(to[i]);
}

LAUNCHER(norm_sums_f32, true)
LAUNCHER(norm_sums_f16, true)
LAUNCHER(norm_sums_bf16, true)
LAUNCHER(norm_apply_f32, true)
LAUNCHER(norm_apply_f16, true)
LAUNCHER(norm_apply_bf16, true)
LAUNCHER(inject_f32, false)
LAUNCHER(inject_f16, false)
LAUNCHER(restore_f32, false)
LAUNCHER(restore_f16, false)
LAUNCHER(restore_guided_f32, false)
LAUNCHER(restore_guided_f16, false)
LAUNCHER(pool_map_f32, false)
LAUNCHER(pool_map_f16, false)
LAUNCHER(pool_count, true)
LAUNCHER(pool_score, true)
LAUNCHER(noise_f32, false)
LAUNCHER(half_round_trip, false)
LAUNCHER(bfloat_round_trip, false)
