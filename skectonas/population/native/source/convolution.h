// Convolutions, with pooling or without. Maps are [block][channel][row][column][lane], lanes are rows of the
// batch, so that every load is aligned and no columns are copied.
#pragma once

#include "geometry.h"

namespace skectonas {
namespace SKECTONAS_ISA {

constexpr int TAPS = 9;

// Vectors of a pixel that are computed together.
template <class T, int B> constexpr int PAIR = B / WIDTH<T> >= 2 ? 2 : 1;

// Sizes of the tiles of accumulators.
constexpr int AVERAGE_OUTPUTS = MANY_REGISTERS ? 6 : 5;
constexpr int AVERAGE_KERNELS = MANY_REGISTERS ? 3 : 1;
constexpr int PATCH_OUTPUTS = MANY_REGISTERS ? 3 : 1;
constexpr int PATCH_KERNELS = MANY_REGISTERS ? 2 : 1;

// Kernels as [tile][summed][tap][of the tile]; the distances are those of channels in `weight`. For a
// gradient they are turned: what was the first tap is the last.
template <int TILE, class T>
INLINE void pack_taps(const T *weight, T *packed, int channels, int distance, int summed, int summed_distance, T scale, bool is_turned = false) {
    in_parts<TILE>(channels, [&](int first, auto size) {
        for (int s = 0; s < summed; s++)
            for (int t = 0; t < TAPS; t++)
                for (int j = 0; j < size; j++)
                    *packed++ = scale * weight[(size_t)(first + j) * distance + (size_t)s * summed_distance + (is_turned ? TAPS - 1 - t : t)];
    });
}

// ------------------------------------------------------------------- average pooling
// The mean over a window commutes with the convolution: it is a convolution of stride 2 of the box map.

template <class T, int B, int OUTPUTS, int PIXELS>
INLINE void average_at(const T *box, const T *kernel, T *z, Vector<T> *sums, int inputs, int size, int line, int z_size) {
    constexpr int W = WIDTH<T>, P = PAIR<T, B>, N = P * PIXELS;
    Vector<T> a[OUTPUTS][N] = {};
    for (int c = 0; c < inputs; c++, box += size, kernel += TAPS * OUTPUTS) {
        UNROLL(9)
        for (int t = 0; t < TAPS; t++) {
            const T *p = box + (t / 3) * line + (t % 3) * B;
            Vector<T> x[N];
            UNROLL(8)
            for (int j = 0; j < N; j++) x[j] = load(p + (j / P) * 2 * B + (j % P) * W);
            UNROLL(8)
            for (int o = 0; o < OUTPUTS; o++) {
                const Vector<T> k = all(kernel[t * OUTPUTS + o]);
                UNROLL(8)
                for (int j = 0; j < N; j++) a[o][j] += k * x[j];
            }
        }
    }
    UNROLL(8)
    for (int o = 0; o < OUTPUTS; o++) {
        UNROLL(8)
        for (int j = 0; j < N; j++) {
            store(z + (size_t)o * z_size + (j / P) * B + (j % P) * W, a[o][j]);
            sums[o] += a[o][j];
        }
    }
}

// Computes z and its sums over all rows for some outputs; `kernel` is [input][tap][output].
template <class T, int B, int OUTPUTS>
INLINE void average_forward(const Geometry &g, const T *box, const T *kernel, T *z, T *sums, int inputs) {
    constexpr int W = WIDTH<T>, P = PAIR<T, B>;
    // Few outputs leave registers for further pixels.
    constexpr int PIXELS = MANY_REGISTERS && OUTPUTS <= 4 ? 4 / P : 1;
    const int line = g.box_line() * B, size = g.box_size() * B, z_size = g.n_windows() * B;
    Vector<T> totals[OUTPUTS] = {};
    for (int r = 0; r < g.rows; r++)
        for (int v = 0; v < B; v += P * W) {
            const T *p = box + (size_t)2 * g.slot_row(r) * line + v;
            T *out = z + (size_t)r * g.columns * B + v;
            const int whole = g.columns - g.odd_width;
            int q = 0;
            for (; q + PIXELS <= whole; q += PIXELS) average_at<T, B, OUTPUTS, PIXELS>(p + 2 * q * B, kernel, out + q * B, totals, inputs, size, line, z_size);
            for (; q < g.columns; q++) average_at<T, B, OUTPUTS, 1>(p + 2 * g.slot_column(q) * B, kernel, out + q * B, totals, inputs, size, line, z_size);
        }
    for (int o = 0; o < OUTPUTS; o++) sums[o] += sum_of<T>(totals[o]);
}

// Gradients of the kernels of some outputs. `slope(o, r, q, v)` is a vector of the gradient of z.
template <class T, int B, int OUTPUTS, class Slope>
INLINE void average_kernels(const Geometry &g, const T *box, T *gradient, int inputs, Slope &&slope) {
    constexpr int W = WIDTH<T>;
    const int line = g.box_line() * B;
    for (int c = 0; c < inputs; c++) {
        const T *map = box + (size_t)c * g.box_size() * B;
        Vector<T> a[OUTPUTS * TAPS] = {};
        for (int r = 0; r < g.rows; r++) {
            const T *p = map + (size_t)2 * g.slot_row(r) * line;
            for (int q = 0; q < g.columns; q++) {
                const T *corner = p + 2 * g.slot_column(q) * B;
                for (int v = 0; v < B; v += W) {
                    Vector<T> s[OUTPUTS];
                    UNROLL(4)
                    for (int o = 0; o < OUTPUTS; o++) s[o] = slope(o, r, q, v);
                    UNROLL(9)
                    for (int t = 0; t < TAPS; t++) {
                        const Vector<T> own = load(corner + (t / 3) * line + (t % 3) * B + v), x = OUTPUTS > 1 ? held(own) : own;
                        UNROLL(4)
                        for (int o = 0; o < OUTPUTS; o++) a[o * TAPS + t] += s[o] * x;
                    }
                }
            }
        }
        T sums[OUTPUTS * TAPS];
        sums_of<T, OUTPUTS * TAPS>(a, sums);
        for (int o = 0; o < OUTPUTS; o++)
            for (int t = 0; t < TAPS; t++) gradient[(o * inputs + c) * TAPS + t] += T(.25) * sums[o * TAPS + t];
    }
}

// Gradient of the box map. `dz` is in the order of z, `kernels` is [input][output][tap], and `values` has
// room for the gradients of a window, which are read once for each input.
template <class T, int B>
INLINE void average_backward(const Geometry &g, const T *dz, const T *kernels, T *dbox, int outputs, int inputs, T *values) {
    constexpr int W = WIDTH<T>, P = MANY_REGISTERS ? PAIR<T, B> : 1;
    const int line = g.box_line() * B, size = g.box_size() * B, z_size = g.n_windows() * B;
    __builtin_memset(dbox, 0, (size_t)inputs * size * sizeof(T));
    for (int r = 0; r < g.rows; r++)
        for (int q = 0; q < g.columns; q++)
            for (int v = 0; v < B; v += P * W) {
                const T *d = dz + (size_t)(r * g.columns + q) * B + v, *kernel = kernels;
                for (int o = 0; o < outputs; o++, d += z_size) {
                    UNROLL(2)
                    for (int j = 0; j < P; j++) store(values + (o * P + j) * W, load(d + j * W));
                }
                T *corner = dbox + (size_t)2 * g.slot_row(r) * line + 2 * g.slot_column(q) * B + v;
                for (int c = 0; c < inputs; c++, corner += size) {
                    Vector<T> a[TAPS][P] = {};
                    const T *x = values;
                    for (int o = 0; o < outputs; o++, kernel += TAPS, x += P * W) {
                        Vector<T> own[P];
                        UNROLL(2)
                        for (int j = 0; j < P; j++) own[j] = load(x + j * W);
                        UNROLL(9)
                        for (int t = 0; t < TAPS; t++) {
                            const Vector<T> k = all(kernel[t]);
                            UNROLL(2)
                            for (int j = 0; j < P; j++) a[t][j] += k * own[j];
                        }
                    }
                    UNROLL(9)
                    for (int t = 0; t < TAPS; t++) {
                        UNROLL(2)
                        for (int j = 0; j < P; j++) {
                            T *to = corner + (t / 3) * line + (t % 3) * B + j * W;
                            store(to, load(to) + a[t][j]);
                        }
                    }
                }
            }
}

// ------------------------------------------------------------------- max pooling, or none
// Four outputs of the convolution are computed for each 2x2 pixels. `finish(a, o, r, q, v)` stores what
// becomes of a vector of them, and returns its sum.

// Keeps the largest. Two masks keep which is the first of them: whether it is in the lower row, and
// whether it is on the right. Those that are cut do not count.
template <class T, int B> struct KeepLargest {
    const Geometry &g;
    T *z;
    Mask<T> *lower, *right;

    INLINE_MEMBER Vector<T> operator()(Vector<T> *a, int o, int r, int q, int v) const {
        const size_t at = (((size_t)o * g.rows + r) * g.columns + q) * (B / WIDTH<T>) + v / WIDTH<T>;
        const Vector<T> nothing = all(-T(__builtin_inf()));
        if (g.odd_width && q == g.columns - 1) a[1] = a[3] = nothing;
        if (g.odd_height && r == g.rows - 1) a[2] = a[3] = nothing;
        const Mask<T> is_right_above = greater(a[1], a[0]), is_right_below = greater(a[3], a[2]);
        const Vector<T> above = larger(a[1], a[0]), below = larger(a[3], a[2]);
        const Mask<T> is_below = greater(below, above);
        const Vector<T> most = larger(below, above);
        lower[at] = is_below;
        right[at] = choose_mask(is_below, is_right_below, is_right_above);
        store(z + at * WIDTH<T>, most);
        return most;
    }
};

// Keeps all four, but those that are cut, in maps whose lines and sizes are given in pixels.
template <class T, int B> struct KeepAll {
    const Geometry &g;
    T *maps;
    int line, size;

    INLINE_MEMBER Vector<T> operator()(const Vector<T> *a, int o, int r, int q, int v) const {
        T *p = maps + ((size_t)o * size + 2 * r * line + 2 * q) * B + v;
        const bool has_right = 2 * q + 1 < g.width, has_below = 2 * r + 1 < g.height;
        Vector<T> sum{};
        UNROLL(4)
        for (int i = 0; i < 4; i++) {
            if ((i % 2 && !has_right) || (i / 2 && !has_below)) continue;
            store(p + (i / 2 * line + i % 2) * B, a[i]);
            sum += a[i];
        }
        return sum;
    }
};

// Computes some outputs, and their sums over all rows if asked for; `kernel` is [input][tap][output].
template <class T, int B, int OUTPUTS, class Finish>
INLINE void patch_forward(const Geometry &g, const T *pad, const T *kernel, T *sums, int inputs, int first, const Finish &finish) {
    constexpr int W = WIDTH<T>, N = B / W;
    const int line = g.pad_line() * B, size = g.pad_size() * B;
    Vector<T> totals[OUTPUTS] = {};
    for (int r = 0; r < g.patch_rows(); r++)
        for (int q = 0; q < g.patch_columns(); q++)
            for (int v = 0; v < N; v++) {
                Vector<T> a[OUTPUTS][4] = {};
                const T *p = pad + (size_t)2 * r * line + 2 * q * B + v * W, *k = kernel;
                for (int c = 0; c < inputs; c++, p += size, k += TAPS * OUTPUTS) {
                    Vector<T> x[16];
                    UNROLL(16)
                    for (int i = 0; i < 16; i++) x[i] = load(p + (i / 4) * line + (i % 4) * B);
                    UNROLL(9)
                    for (int t = 0; t < TAPS; t++) {
                        const int i = (t / 3) * 4 + t % 3;
                        UNROLL(4)
                        for (int o = 0; o < OUTPUTS; o++) {
                            const Vector<T> w = all(k[t * OUTPUTS + o]);
                            a[o][0] += w * x[i];
                            a[o][1] += w * x[i + 1];
                            a[o][2] += w * x[i + 4];
                            a[o][3] += w * x[i + 5];
                        }
                    }
                }
                UNROLL(4)
                for (int o = 0; o < OUTPUTS; o++) totals[o] += finish(a[o], first + o, r, q, v * W);
            }
    if (sums)
        for (int o = 0; o < OUTPUTS; o++) sums[first + o] += sum_of<T>(totals[o]);
}

// Gradients of the kernels of some outputs without pooling. `slope(o, r, q, v)` is a vector of the
// gradient of z, and zero where that is cut.
template <class T, int B, int OUTPUTS, class Slope>
INLINE void patch_kernels(const Geometry &g, const T *pad, T *gradient, int inputs, Slope &&slope) {
    constexpr int W = WIDTH<T>;
    const int line = g.pad_line() * B, rows = g.patch_rows(), columns = g.patch_columns();
    for (int c = 0; c < inputs; c++) {
        const T *map = pad + (size_t)c * g.pad_size() * B;
        Vector<T> a[OUTPUTS * TAPS] = {};
        for (int r = 0; r < rows; r++)
            for (int q = 0; q < columns; q++)
                for (int v = 0; v < B; v += W) {
                    const T *p = map + (size_t)2 * r * line + 2 * q * B + v;
                    Vector<T> s[OUTPUTS][4];
                    UNROLL(4)
                    for (int o = 0; o < OUTPUTS; o++) {
                        UNROLL(4)
                        for (int i = 0; i < 4; i++) s[o][i] = slope(o, 2 * r + i / 2, 2 * q + i % 2, v);
                    }
                    UNROLL(16)
                    for (int i = 0; i < 16; i++) {
                        const Vector<T> x = held(load(p + (i / 4) * line + (i % 4) * B));
                        UNROLL(4)
                        for (int j = 0; j < 4; j++) {
                            const int row = i / 4 - j / 2, column = i % 4 - j % 2;
                            if (row < 0 || row > 2 || column < 0 || column > 2) continue;
                            UNROLL(4)
                            for (int o = 0; o < OUTPUTS; o++) a[o * TAPS + 3 * row + column] += s[o][j] * x;
                        }
                    }
                }
        T sums[OUTPUTS * TAPS];
        sums_of<T, OUTPUTS * TAPS>(a, sums);
        for (int o = 0; o < OUTPUTS; o++)
            for (int t = 0; t < TAPS; t++) gradient[(o * inputs + c) * TAPS + t] += sums[o * TAPS + t];
    }
}

// Those of either kind.
template <class T, int B, int OUTPUTS, bool POOLS, class Slope>
INLINE void linear_kernels(const Geometry &g, const T *in, T *gradient, int inputs, Slope &&slope) {
    if constexpr (POOLS)
        average_kernels<T, B, OUTPUTS>(g, in, gradient, inputs, slope);
    else
        patch_kernels<T, B, OUTPUTS>(g, in, gradient, inputs, slope);
}

// Gradients of the kernels of one output. `slope(r, q, v)` is a vector of the gradient of z.
template <class T, int B, class Slope>
INLINE void maximum_kernels(const Geometry &g, const T *pad, const Mask<T> *lower, const Mask<T> *right, T *gradient, int inputs, Slope &&slope) {
    constexpr int W = WIDTH<T>, N = B / W;
    const int line = g.pad_line() * B;
    for (int c = 0; c < inputs; c++) {
        const T *map = pad + (size_t)c * g.pad_size() * B;
        Vector<T> a[TAPS] = {};
        size_t at = 0;
        for (int r = 0; r < g.rows; r++) {
            const T *p = map + (size_t)2 * r * line;
            for (int q = 0; q < g.columns; q++, p += 2 * B)
                for (int v = 0; v < N; v++, at++) {
                    const Mask<T> is_below = lower[at], is_right = right[at];
                    const Vector<T> s = slope(at * W);
                    Vector<T> x[16];
                    UNROLL(16)
                    for (int i = 0; i < 16; i++) x[i] = load(p + (i / 4) * line + (i % 4) * B + v * W);
                    UNROLL(3)
                    for (int i = 0; i < 3; i++) {
                        Vector<T> own[4];
                        UNROLL(4)
                        for (int j = 0; j < 4; j++) own[j] = choose(is_below, x[4 * i + 4 + j], x[4 * i + j]);
                        UNROLL(3)
                        for (int j = 0; j < 3; j++) a[3 * i + j] += s * choose(is_right, own[j + 1], own[j]);
                    }
                }
        }
        T sums[TAPS];
        sums_of<T, TAPS>(a, sums);
        for (int t = 0; t < TAPS; t++) gradient[c * TAPS + t] += sums[t];
    }
}

// Adds the gradient of the padded input; `kernel` is [output][input][tap].
template <class T, int B>
INLINE void maximum_backward(const Geometry &g, const T *dz, const Mask<T> *lower, const Mask<T> *right, const T *kernel, T *dpad, int outputs, int inputs) {
    constexpr int W = WIDTH<T>, N = B / W;
    const int line = g.pad_line() * B;
    const size_t size = (size_t)g.pad_size() * B, n = (size_t)g.n_windows() * N;
    for (int r = 0; r < g.rows; r++)
        for (int q = 0; q < g.columns; q++)
            for (int v = 0; v < N; v++)
                for (int c = 0; c < inputs; c++) {
                    Vector<T> d[16] = {};
                    const size_t at = (size_t)(r * g.columns + q) * N + v;
                    for (int o = 0; o < outputs; o++) {
                        const Mask<T> is_below = lower[o * n + at], is_right = right[o * n + at];
                        const Vector<T> s = load(dz + (o * n + at) * W);
                        const Vector<T> on_right = keep(is_right, s), on_left = s - on_right;
                        const Vector<T> s3 = keep(is_below, on_right), s1 = on_right - s3;
                        const Vector<T> s2 = keep(is_below, on_left), s0 = on_left - s2;
                        const T *k = kernel + (size_t)(o * inputs + c) * TAPS;
                        UNROLL(9)
                        for (int t = 0; t < TAPS; t++) {
                            const int i = (t / 3) * 4 + t % 3;
                            const Vector<T> w = all(k[t]);
                            d[i] += w * s0;
                            d[i + 1] += w * s1;
                            d[i + 4] += w * s2;
                            d[i + 5] += w * s3;
                        }
                    }
                    T *p = dpad + c * size + (size_t)2 * r * line + 2 * q * B + v * W;
                    UNROLL(16)
                    for (int i = 0; i < 16; i++) {
                        T *to = p + (i / 4) * line + (i % 4) * B;
                        store(to, load(to) + d[i]);
                    }
                }
}

}  // namespace SKECTONAS_ISA
}  // namespace skectonas
