// Convolutions of many channels with max pooling or none, by the minimal filtering of Winograd, F(2x2, 3x3):
// the four outputs of a window take 16 multiplications for each input instead of 36. Patches,
// kernels and gradients are transformed; what is summed over channels are products of equal places.
#pragma once

#include "convolution.h"

namespace skectonas {
namespace SKECTONAS_ISA {

constexpr int PLACES = 16;

// A tile of the products: some channels, and some vectors of patches.
constexpr int TILE_CHANNELS = MANY_REGISTERS ? 6 : 5;
constexpr int TILE_VECTORS = MANY_REGISTERS ? 4 : 2;

// With fewer channels the transforms cost more than they save.
constexpr int FEWEST_CHANNELS = 6;

// Values from one place to the next, for some channels: no multiple of the page size.
template <class T> INLINE size_t place_stride(int channels) { return ((size_t)channels * TILE_VECTORS + 1) * WIDTH<T>; }

// Kernel of an output and an input -> its places.
template <class T> INLINE void kernel_places(const T *kernel, T *places) {
    T half[4][3];
    for (int j = 0; j < 3; j++) {
        const T top = kernel[j], middle = kernel[3 + j], bottom = kernel[6 + j];
        half[0][j] = top;
        half[1][j] = T(.5) * (top + middle + bottom);
        half[2][j] = T(.5) * (top - middle + bottom);
        half[3][j] = bottom;
    }
    for (int i = 0; i < 4; i++) {
        const T left = half[i][0], middle = half[i][1], right = half[i][2];
        places[4 * i] = left;
        places[4 * i + 1] = T(.5) * (left + middle + right);
        places[4 * i + 2] = T(.5) * (left - middle + right);
        places[4 * i + 3] = right;
    }
}

// As `pack_taps`, as [tile][place][summed][of the tile].
template <class T> INLINE void pack_places(const T *weight, T *packed, int channels, int distance, int summed, int summed_distance, bool is_turned = false) {
    in_parts<TILE_CHANNELS>(channels, [&](int first, auto size) {
        for (int j = 0; j < size; j++)
            for (int s = 0; s < summed; s++) {
                T taps[TAPS], places[PLACES];
                const T *kernel = weight + (size_t)(first + j) * distance + (size_t)s * summed_distance;
                for (int t = 0; t < TAPS; t++) taps[t] = kernel[is_turned ? TAPS - 1 - t : t];
                kernel_places(taps, places);
                for (int p = 0; p < PLACES; p++) packed[((size_t)p * summed + s) * size + j] = places[p];
            }
        packed += (size_t)PLACES * summed * size;
    });
}

// products [place][channel of the tile][vector] = sums over channels of kernels times values.
template <class T, int CHANNELS> INLINE void multiply_places(const T *kernels, const T *values, T *products, int summed) {
    constexpr int W = WIDTH<T>, N = TILE_VECTORS;
    const size_t stride = place_stride<T>(summed);
    for (int p = 0; p < PLACES; p++, values += stride) {
        Vector<T> a[CHANNELS][N] = {};
        const T *x = values;
        for (int s = 0; s < summed; s++, x += N * W, kernels += CHANNELS) {
            Vector<T> own[N];
            UNROLL(4)
            for (int j = 0; j < N; j++) own[j] = load(x + j * W);
            UNROLL(8)
            for (int c = 0; c < CHANNELS; c++) {
                const Vector<T> k = all(kernels[c]);
                UNROLL(4)
                for (int j = 0; j < N; j++) a[c][j] += k * own[j];
            }
        }
        UNROLL(8)
        for (int c = 0; c < CHANNELS; c++) {
            UNROLL(4)
            for (int j = 0; j < N; j++, products += W) store(products, a[c][j]);
        }
    }
}

// A line or column of a patch -> its places.
template <class V> INLINE void patch_places(V &a, V &b, V &c, V &d) {
    const V second = b + c, third = c - b, fourth = b - d;
    a -= c;
    b = second;
    c = third;
    d = fourth;
}

// The transpose of the above: gradients of places -> gradients of a line of a patch.
template <class V> INLINE void patch_gradient(V &a, V &b, V &c, V &d) {
    const V second = b - c + d, third = b + c - a;
    b = second;
    c = third;
    d = -d;
}

// The vectors of all patches of a channel are taken in strips, one after the other.
template <class T, int B> struct Strip {
    static constexpr int N = B / WIDTH<T>;
    int first, end, columns;

    // Calls `f(j, row, column, v)` for each vector of the strip.
    template <class F> INLINE_MEMBER void each(F &&f) const {
        for (int j = 0; j < TILE_VECTORS && first + j < end; j++) {
            const int patch = (first + j) / N;
            f(j, patch / columns, patch % columns, (first + j) % N * WIDTH<T>);
        }
    }
};

template <class T, int B, class F> INLINE void in_strips(const Geometry &g, F &&f) {
    const int end = g.n_patches() * Strip<T, B>::N;
    for (int first = 0; first < end; first += TILE_VECTORS) f(Strip<T, B>{first, end, g.patch_columns()});
}

// As `patch_forward`, for all outputs.
template <class T, int B, class Finish>
INLINE void winograd_forward(const Geometry &g, const T *pad, const T *kernels, T *sums, int inputs, int outputs, T *values, T *products, const Finish &finish) {
    constexpr int W = WIDTH<T>, N = TILE_VECTORS;
    const int line = g.pad_line() * B;
    const size_t size = (size_t)g.pad_size() * B, stride = place_stride<T>(inputs);
    in_strips<T, B>(g, [&](const Strip<T, B> &strip) __attribute__((always_inline)) {
        for (int c = 0; c < inputs; c++)
            strip.each([&](int j, int r, int q, int v) __attribute__((always_inline)) {
                const T *p = pad + c * size + (size_t)2 * r * line + 2 * q * B + v;
                T *out = values + (c * N + j) * W;
                Vector<T> x[16];
                UNROLL(16)
                for (int i = 0; i < 16; i++) x[i] = load(p + (i / 4) * line + (i % 4) * B);
                UNROLL(4)
                for (int i = 0; i < 4; i++) patch_places(x[i], x[4 + i], x[8 + i], x[12 + i]);
                UNROLL(4)
                for (int i = 0; i < 4; i++) patch_places(x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]);
                UNROLL(16)
                for (int i = 0; i < 16; i++) store(out + i * stride, x[i]);
            });
        const T *k = kernels;
        in_parts<TILE_CHANNELS>(outputs, [&](int first, auto channels) {
            constexpr int C = channels();
            multiply_places<T, C>(k, values, products, inputs);
            k += (size_t)PLACES * inputs * C;
            for (int c = 0; c < C; c++) {
                Vector<T> total{};
                strip.each([&](int j, int r, int q, int v) __attribute__((always_inline)) {
                    const T *m = products + (c * N + j) * W;
                    Vector<T> a[4], half[2][4];
                    UNROLL(4)
                    for (int i = 0; i < 4; i++) {
                        const Vector<T> second = load(m + (4 + i) * C * N * W), third = load(m + (8 + i) * C * N * W);
                        half[0][i] = load(m + i * C * N * W) + second + third;
                        half[1][i] = second - third - load(m + (12 + i) * C * N * W);
                    }
                    UNROLL(2)
                    for (int i = 0; i < 2; i++) {
                        a[2 * i] = half[i][0] + half[i][1] + half[i][2];
                        a[2 * i + 1] = half[i][1] - half[i][2] - half[i][3];
                    }
                    total += finish(a, first + c, r, q, v);
                });
                if (sums) sums[first + c] += sum_of<T>(total);
            }
        });
    });
}

// As `maximum_backward`, for all inputs.
template <class T, int B>
INLINE void winograd_backward(const Geometry &g, const T *dz, const Mask<T> *lower, const Mask<T> *right, const T *kernels, T *dpad, int outputs, int inputs, T *values,
                              T *products) {
    constexpr int W = WIDTH<T>, N = TILE_VECTORS;
    const int line = g.pad_line() * B;
    const size_t size = (size_t)g.pad_size() * B, n = (size_t)g.n_windows() * (B / W), stride = place_stride<T>(outputs);
    in_strips<T, B>(g, [&](const Strip<T, B> &strip) __attribute__((always_inline)) {
        for (int o = 0; o < outputs; o++)
            strip.each([&](int j, int, int, int) __attribute__((always_inline)) {
                const size_t at = o * n + strip.first + j;
                T *out = values + (o * N + j) * W;
                const Vector<T> s = load(dz + at * W), on_right = keep(right[at], s);
                const Vector<T> across[4] = {s - on_right, s, s - on_right - on_right, -on_right};
                UNROLL(4)
                for (int i = 0; i < 4; i++) {
                    const Vector<T> below = keep(lower[at], across[i]);
                    store(out + i * stride, across[i] - below);
                    store(out + (4 + i) * stride, across[i]);
                    store(out + (8 + i) * stride, across[i] - below - below);
                    store(out + (12 + i) * stride, -below);
                }
            });
        const T *k = kernels;
        in_parts<TILE_CHANNELS>(inputs, [&](int first, auto channels) {
            constexpr int C = channels();
            multiply_places<T, C>(k, values, products, outputs);
            k += (size_t)PLACES * outputs * C;
            for (int c = 0; c < C; c++)
                strip.each([&](int j, int r, int q, int v) __attribute__((always_inline)) {
                    const T *m = products + (c * N + j) * W;
                    T *p = dpad + (first + c) * size + (size_t)2 * r * line + 2 * q * B + v;
                    Vector<T> d[16];
                    UNROLL(16)
                    for (int i = 0; i < 16; i++) d[i] = load(m + i * C * N * W);
                    UNROLL(4)
                    for (int i = 0; i < 4; i++) patch_gradient(d[i], d[4 + i], d[8 + i], d[12 + i]);
                    UNROLL(4)
                    for (int i = 0; i < 4; i++) patch_gradient(d[4 * i], d[4 * i + 1], d[4 * i + 2], d[4 * i + 3]);
                    UNROLL(16)
                    for (int i = 0; i < 16; i++) {
                        T *to = p + (i / 4) * line + (i % 4) * B;
                        store(to, load(to) + d[i]);
                    }
                });
        });
    });
}

}  // namespace SKECTONAS_ISA
}  // namespace skectonas
