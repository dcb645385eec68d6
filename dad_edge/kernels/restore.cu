// Restore: the one-step estimate of the flawless image, written into the segmenter's input.
//
// restore, for every time step (Eq. 5):
//   x0  = clamp((x_t - sqrt_one_minus_alpha_bar[l] * eps) / sqrt_alpha_bar[l], low, high)
//   out = image, x0 side by side
//   image (B,3,S,S); x_t, eps (L*B,3,S,S), row l * B + b; out (L*B,6,S,S)
//   Launch: grid (ceil(ceil(3*S*S / 4) / threads), L*B), block (threads), say 256.
//
// restore_guided, from a pair of time steps, n and the noisier m (the journal version):
//   x0_m   = clamp((x_m - sqrt_one_minus_alpha_bar_m * eps_m) / sqrt_alpha_bar_m, low, high)
//   x~     = sqrt_alpha_bar_n * x0_m + sqrt_one_minus_alpha_bar_n * eps_n
//   eps^   = eps_n - weight * sqrt_one_minus_alpha_bar_n * (x~ - x_n)
//   x0     = clamp((x_n - sqrt_one_minus_alpha_bar_n * eps^) / sqrt_alpha_bar_n, low, high)
//   image, x_n, eps_n, x_m, eps_m (B,3,S,S); out (B,6,S,S)
//   Launch: grid (ceil(ceil(3*S*S / 4) / threads), B), block (threads).
//
// One thread makes four neighbouring elements. A NaN goes through. Where an eps is not finite, which
// neither the clamp nor the segmenter may hide, broken (B) becomes 1 for its image.
#include "tensor.cuh"

// Not fminf(fmaxf(..)): those turn NaN into a bound.
__device__ inline float clamp(float value, float low, float high) {
    return value < low ? low : value > high ? high : value;
}

__device__ inline float one_step(float x_t, float eps, float sqrt_alpha_bar,
                                 float sqrt_one_minus_alpha_bar, float low, float high) {
    return clamp((x_t - sqrt_one_minus_alpha_bar * eps) / sqrt_alpha_bar, low, high);
}

__device__ inline void check(const float eps[4], unsigned *broken) {
    for (int i = 0; i < 4; i++)
        if (!is_finite(eps[i])) *broken = 1;
}

template <typename T>
__device__ inline void restore(const T *image, const T *x_t, const T *eps, T *out,
                               unsigned *broken, int size, int batch, const float *sqrt_alpha_bar,
                               const float *sqrt_one_minus_alpha_bar, float low, float high) {
    const int elements = 3 * size * size;
    const int start = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    if (start >= elements) return;
    const int row = blockIdx.y, l = row / batch, b = row % batch;
    const size_t at = (size_t)row * elements;

    float clean[4], noisy[4], noise[4], x0[4];
    load4(image + (size_t)b * elements, start, elements, clean);
    load4(x_t + at, start, elements, noisy);
    load4(eps + at, start, elements, noise);
    check(noise, broken + b);
    for (int i = 0; i < 4; i++)
        x0[i] = one_step(noisy[i], noise[i], sqrt_alpha_bar[l], sqrt_one_minus_alpha_bar[l], low,
                         high);
    store4(out + 2 * at, start, elements, clean);
    store4(out + 2 * at + elements, start, elements, x0);
}

template <typename T>
__device__ inline void restore_guided(const T *image, const T *x_n, const T *eps_n, const T *x_m,
                                      const T *eps_m, T *out, unsigned *broken, int size,
                                      float sqrt_alpha_bar_n,
                                      float sqrt_one_minus_alpha_bar_n, float sqrt_alpha_bar_m,
                                      float sqrt_one_minus_alpha_bar_m, float weight, float low,
                                      float high) {
    const int elements = 3 * size * size;
    const int start = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    if (start >= elements) return;
    const size_t at = (size_t)blockIdx.y * elements;

    float clean[4], noisy_n[4], noise_n[4], noisy_m[4], noise_m[4], x0[4];
    load4(image + at, start, elements, clean);
    load4(x_n + at, start, elements, noisy_n);
    load4(eps_n + at, start, elements, noise_n);
    load4(x_m + at, start, elements, noisy_m);
    load4(eps_m + at, start, elements, noise_m);
    check(noise_n, broken + blockIdx.y);
    check(noise_m, broken + blockIdx.y);
    for (int i = 0; i < 4; i++) {
        const float x0_m = one_step(noisy_m[i], noise_m[i], sqrt_alpha_bar_m,
                                    sqrt_one_minus_alpha_bar_m, low, high);
        const float guide = sqrt_alpha_bar_n * x0_m + sqrt_one_minus_alpha_bar_n * noise_n[i];
        const float guided =
            noise_n[i] - weight * sqrt_one_minus_alpha_bar_n * (guide - noisy_n[i]);
        x0[i] = one_step(noisy_n[i], guided, sqrt_alpha_bar_n, sqrt_one_minus_alpha_bar_n, low,
                         high);
    }
    store4(out + 2 * at, start, elements, clean);
    store4(out + 2 * at + elements, start, elements, x0);
}

extern "C" __global__ void restore_f32(const float *image, const float *x_t, const float *eps,
                                       float *out, unsigned *broken, int size, int batch,
                                       const float *sqrt_alpha_bar,
                                       const float *sqrt_one_minus_alpha_bar, float low,
                                       float high) {
    restore(image, x_t, eps, out, broken, size, batch, sqrt_alpha_bar, sqrt_one_minus_alpha_bar, low, high);
}

extern "C" __global__ void restore_f16(const Half *image, const Half *x_t, const Half *eps,
                                       Half *out, unsigned *broken, int size, int batch,
                                       const float *sqrt_alpha_bar,
                                       const float *sqrt_one_minus_alpha_bar, float low,
                                       float high) {
    restore(image, x_t, eps, out, broken, size, batch, sqrt_alpha_bar, sqrt_one_minus_alpha_bar, low, high);
}

extern "C" __global__ void restore_guided_f32(
    const float *image, const float *x_n, const float *eps_n, const float *x_m, const float *eps_m,
    float *out, unsigned *broken, int size, float sqrt_alpha_bar_n, float sqrt_one_minus_alpha_bar_n,
    float sqrt_alpha_bar_m, float sqrt_one_minus_alpha_bar_m, float weight, float low,
    float high) {
    restore_guided(image, x_n, eps_n, x_m, eps_m, out, broken, size, sqrt_alpha_bar_n,
                   sqrt_one_minus_alpha_bar_n, sqrt_alpha_bar_m, sqrt_one_minus_alpha_bar_m, weight,
                   low, high);
}

extern "C" __global__ void restore_guided_f16(
    const Half *image, const Half *x_n, const Half *eps_n, const Half *x_m, const Half *eps_m,
    Half *out, unsigned *broken, int size, float sqrt_alpha_bar_n, float sqrt_one_minus_alpha_bar_n,
    float sqrt_alpha_bar_m, float sqrt_one_minus_alpha_bar_m, float weight, float low,
    float high) {
    restore_guided(image, x_n, eps_n, x_m, eps_m, out, broken, size, sqrt_alpha_bar_n,
                   sqrt_one_minus_alpha_bar_n, sqrt_alpha_bar_m, sqrt_one_minus_alpha_bar_m, weight,
                   low, high);
}
