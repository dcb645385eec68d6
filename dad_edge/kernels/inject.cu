// Inject: camera frames to the model's image and to its noisy copies, in one pass.
//
//   image = resize(frame) / 255 * scale + offset
//   x_t   = sqrt_alpha_bar[l] * image + sqrt_one_minus_alpha_bar[l] * noise(l)        Eq. 2
//
//   frames  frames (height, width) of uint8, any size: `pitch` bytes from row to row,
//           `frame_stride` bytes from frame to frame; BGR, RGB, GREY, or NV12 (even height and
//           width; the chroma rows begin `chroma_offset` bytes after the frame does, same pitch).
//           A launch fills rows first .. of a batch of B: cameras whose frames differ in size
//           share a batch by one launch each. NV12 is ITU-R BT.601, NV12_709 the same in BT.709.
//   image   (B,3,S,S) RGB
//   x_t     (L*B,3,S,S), row l * B + b
//   broken  (B) unsigned, set to 0: whether a network gave a value that is not finite
//   noise   philox.cuh, frame counter *frame_counter + b * advance; advance 0 gives every frame of
//           a batch the same noise. The counter is read from memory so that a CUDA graph can be
//           replayed with another one.
//   resize  dad_edge/image/preprocess.py: area average where neither side grows, else bilinear
//
// Launch: grid (ceil(ceil(3*S*S / 4) / threads), frames), block (threads), say 256. One thread
// makes four neighbouring elements of one image, which share a Philox block, for every λ.
#include "philox.cuh"
#include "tensor.cuh"

enum PixelFormat { BGR = 0, RGB = 1, GREY = 2, NV12 = 3, NV12_709 = 4 };

// The source pixels of one output position along one axis, with whole-number weights.
struct Taps {
    int first, last;
    unsigned first_weight, inner_weight, last_weight, total;

    __device__ unsigned weight(int i) const {
        return i == first ? first_weight : i == last ? last_weight : inner_weight;
    }
};

// Area: output pixel `out` covers source interval [out, out + 1) * in / size; in units of 1 / size
// pixel its ends are whole numbers, and so is the length of every overlap.
__device__ inline Taps area_taps(int out, int in, int size) {
    const int begin = out * in, end = begin + in;
    Taps taps;
    taps.first = begin / size;
    taps.last = (end - 1) / size;
    taps.first_weight = (taps.first + 1) * size - begin;
    taps.inner_weight = size;
    taps.last_weight = end - taps.last * size;
    taps.total = in;
    return taps;
}

// Bilinear: half-pixel centres, (out + 0.5) * in / size - 0.5 in units of 1 / (2 size), the edge
// pixel repeated outside.
__device__ inline Taps linear_taps(int out, int in, int size) {
    const int unit = 2 * size;
    const int centre = (2 * out + 1) * in - size;
    Taps taps;
    taps.first = centre < 0 ? 0 : centre / unit;
    taps.last_weight = centre < 0 ? 0 : centre % unit;
    if (taps.first >= in - 1) {
        taps.first = in - 1;
        taps.last_weight = 0;
    }
    taps.last = taps.last_weight ? taps.first + 1 : taps.first;
    taps.first_weight = unit - taps.last_weight;
    taps.inner_weight = 0;
    taps.total = unit;
    return taps;
}

// Limited range, in 20-bit fixed point: one channel (0 R, 1 G, 2 B) of one pixel. BT.601 has the
// rounded factors that OpenCV has.
__device__ inline unsigned nv12_channel(unsigned luma, unsigned cb, unsigned cr, int channel,
                                        bool bt709) {
    const int bright = (int)luma > 16 ? (int)luma - 16 : 0;
    const int y = (bt709 ? 1220945 : 1220542) * bright + (1 << 19);
    const int u = (int)cb - 128, v = (int)cr - 128;
    const int colour = channel == 0   ? (bt709 ? 1879825 : 1673527) * v
                       : channel == 1 ? (bt709 ? -558796 : -852492) * v
                                            - (bt709 ? 223607 : 409993) * u
                                      : (bt709 ? 2215014 : 2116026) * u;
    const int value = (y + colour) >> 20;
    return value < 0 ? 0 : value > 255 ? 255 : value;
}

// One channel of one output pixel in [0, 1]. Sums are exact: whole-number weights, rounded once.
// Not inlined: four copies of it, each unrolled, would triple the size of the kernel.
__device__ __noinline__ float resample(const unsigned char *frame, long long pitch,
                                       long long chroma_offset, int height, int width,
                                       int format, int size, int channel, int row, int column) {
    const bool area = height >= size && width >= size;
    const Taps ys = area ? area_taps(row, height, size) : linear_taps(row, height, size);
    const Taps xs = area ? area_taps(column, width, size) : linear_taps(column, width, size);
    const int step = format == BGR || format == RGB ? 3 : 1;
    const int place = format == BGR ? 2 - channel : format == RGB ? channel : 0;
    unsigned long long sum = 0;
    for (int y = ys.first; y <= ys.last; y++) {
        const unsigned char *line = frame + y * pitch;
        const unsigned char *chroma = frame + chroma_offset + (y / 2) * pitch;
        unsigned line_sum = 0;
        for (int x = xs.first; x <= xs.last; x++) {
            unsigned value = line[x * step + place];
            if (format >= NV12) {
                const int pair = x & ~1;
                value = nv12_channel(value, chroma[pair], chroma[pair + 1], channel,
                                     format == NV12_709);
            }
            line_sum += xs.weight(x) * value;
        }
        sum += (unsigned long long)ys.weight(y) * line_sum;
    }
    return (float)sum / (255.0f * (float)ys.total * (float)xs.total);
}

template <typename T>
__device__ inline void inject(const unsigned char *frames, long long frame_stride, long long pitch,
                              long long chroma_offset, int height, int width, int format, T *image,
                              T *x_t, unsigned *broken, int size, int first, int batch, int lambdas,
                              const float *sqrt_alpha_bar, const float *sqrt_one_minus_alpha_bar,
                              float scale, float offset, unsigned long long seed,
                              const unsigned long long *frame_counter, int advance) {
    const int block = blockIdx.x * blockDim.x + threadIdx.x;
    const int b = first + blockIdx.y;
    const unsigned char *frame = frames + blockIdx.y * frame_stride;
    const int plane = size * size, elements = 3 * plane, start = 4 * block;
    if (start >= elements) return;
    if (start == 0) broken[b] = 0;

    float clean[4], noise[4], noisy[4];
    for (int i = 0; i < 4; i++) {
        const int element = start + i < elements ? start + i : elements - 1;
        const int channel = element / plane, pixel = element % plane;
        const float value = resample(frame, pitch, chroma_offset, height, width, format, size,
                                     channel, pixel / size, pixel % size);
        clean[i] = value * scale + offset;
    }
    store4(image + (size_t)b * elements, start, elements, clean);

    const unsigned long long counter = *frame_counter + (unsigned long long)b * advance;
    for (int l = 0; l < lambdas; l++) {
        philox_normal4(block, l, counter, seed, noise);
        for (int i = 0; i < 4; i++)
            noisy[i] = sqrt_alpha_bar[l] * clean[i] + sqrt_one_minus_alpha_bar[l] * noise[i];
        store4(x_t + (size_t)(l * batch + b) * elements, start, elements, noisy);
    }
}

extern "C" __global__ void inject_f32(
    const unsigned char *frames, long long frame_stride, long long pitch, long long chroma_offset,
    int height, int width, int format, float *image, float *x_t, unsigned *broken, int size, int first, int batch,
    int lambdas, const float *sqrt_alpha_bar, const float *sqrt_one_minus_alpha_bar, float scale,
    float offset, unsigned long long seed, const unsigned long long *frame_counter, int advance) {
    inject(frames, frame_stride, pitch, chroma_offset, height, width, format, image, x_t,
           broken, size, first, batch, lambdas, sqrt_alpha_bar, sqrt_one_minus_alpha_bar, scale, offset, seed,
           frame_counter, advance);
}

extern "C" __global__ void inject_f16(
    const unsigned char *frames, long long frame_stride, long long pitch, long long chroma_offset,
    int height, int width, int format, Half *image, Half *x_t, unsigned *broken, int size, int first, int batch,
    int lambdas, const float *sqrt_alpha_bar, const float *sqrt_one_minus_alpha_bar, float scale,
    float offset, unsigned long long seed, const unsigned long long *frame_counter, int advance) {
    inject(frames, frame_stride, pitch, chroma_offset, height, width, format, image, x_t,
           broken, size, first, batch, lambdas, sqrt_alpha_bar, sqrt_one_minus_alpha_bar, scale, offset, seed,
           frame_counter, advance);
}
