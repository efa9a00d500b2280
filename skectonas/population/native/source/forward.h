// The forward pass.
#pragma once

#include "net.h"

namespace skectonas {
namespace SKECTONAS_ISA {

template <class T, int B> INLINE void pack(Cell<T> &c, const T *weight) {
    const int distance = c.inputs * TAPS;
    if (c.by_places)
        pack_places(weight, c.packed, c.outputs, distance, c.inputs, TAPS);
    else if (c.reads_padded())
        pack_taps<PATCH_OUTPUTS>(weight, c.packed, c.outputs, distance, c.inputs, TAPS, T(1));
    else
        pack_taps<AVERAGE_OUTPUTS>(weight, c.packed, c.outputs, distance, c.inputs, TAPS, T(.25));
}

// The convolution of one block of a padded map: see `patch_forward`.
template <class T, int B, class Finish>
INLINE void convolve_padded(const Cell<T> &c, const T *in, const T *kernels, T *sums, int inputs, int outputs, const Finish &finish) {
    if (c.by_places)
        winograd_forward<T, B>(c.g, in, kernels, sums, inputs, outputs, c.values, c.products, finish);
    else
        in_parts<PATCH_OUTPUTS>(outputs, [&](int o, auto size) {
            patch_forward<T, B, size()>(c.g, in, kernels, sums, inputs, o, finish);
            kernels += (size_t)TAPS * inputs * size();
        });
}

// Computes z of one block; adds its sums to those of the cell.
template <class T, int B> INLINE void convolve(Cell<T> &c, const T *in, T *z, size_t mask) {
    const size_t n = (size_t)c.g.n_windows() * B;
    const T *k = c.packed;
    if (c.pooling == MAX_POOLING)
        convolve_padded<T, B>(c, in, k, c.sums, c.inputs, c.outputs, KeepLargest<T, B>{c.g, z, c.lower + mask, c.right + mask});
    else if (c.pooling == NO_POOLING)
        convolve_padded<T, B>(c, in, k, c.sums, c.inputs, c.outputs, KeepAll<T, B>{c.g, z, c.g.columns, c.g.n_windows()});
    else
        in_parts<AVERAGE_OUTPUTS>(c.outputs, [&](int o, auto size) {
            average_forward<T, B, size()>(c.g, in, k, z + o * n, c.sums + o, c.inputs);
            k += (size_t)TAPS * c.inputs * size();
        });
}

// Sum of the squared differences from the mean of one output over one block.
template <class T, int B> INLINE T squares(const T *z, const T *live, T mean, int windows) {
    constexpr int W = WIDTH<T>, N = B / W;
    Vector<T> lanes[N], sums[N] = {};
    for (int v = 0; v < N; v++) lanes[v] = load(live + v * W);
    for (int i = 0; i < windows; i++, z += B) {
        UNROLL(8)
        for (int v = 0; v < N; v++) {
            const Vector<T> d = (load(z + v * W) - mean) * lanes[v];
            sums[v] += d * d;
        }
    }
    for (int v = 1; v < N; v++) sums[0] += sums[v];
    return sum_of<T>(sums[0]);
}

template <class T> INLINE void set_norm(Cell<T> &c, const T *weights, int o, T mean, T variance) {
    c.mean[o] = mean;
    c.inverse[o] = T(1) / (sizeof(T) == 4 ? __builtin_sqrtf(variance + T(BATCH_NORM_EPSILON)) : __builtin_sqrt(variance + T(BATCH_NORM_EPSILON)));
    c.factor[o] = weights[c.gamma + o] * c.inverse[o];
    c.shift[o] = weights[c.beta + o] - c.factor[o] * mean;
}

// Batch norm and relu of one block, as the input of what comes next. Lanes without a row stay zero,
// so that the sums of the next cell need no mask.
template <class T, int B> INLINE void normalise(const Cell<T> &c, const T *z, const T *live, const Cell<T> *next, T *out, T *line) {
    constexpr int W = WIDTH<T>;
    const int rows = c.g.rows, columns = c.g.columns;
    Vector<T> lanes[B / W];
    for (int v = 0; v < B / W; v++) lanes[v] = load(live + v * W);
    for (int o = 0; o < c.outputs; o++, z += (size_t)rows * columns * B) {
        const T factor = c.factor[o], shift = c.shift[o];
        const auto value = [&](const T *p, int v) __attribute__((always_inline)) { return relu(load(p + v) * factor + shift) * lanes[v / W]; };
        if (!next) {
            for (int i = 0; i < rows * columns; i++, out += B)
                UNROLL(8)
                for (int v = 0; v < B; v += W) store(out + v, value(z + (size_t)i * B, v));
        } else if (next->reads_padded()) {
            for (int r = 0; r < rows; r++) {
                T *p = out + ((size_t)(r + 1) * next->g.pad_line() + 1) * B;
                const T *own = z + (size_t)r * columns * B;
                for (int i = 0; i < columns; i++)
                    UNROLL(8)
                    for (int v = 0; v < B; v += W) store(p + i * B + v, value(own + i * B, v));
            }
            out += (size_t)next->g.pad_size() * B;
        } else {
            fill_box<T, B>(next->g, out, line, [&](int r, int q, int v) __attribute__((always_inline)) { return value(z + ((size_t)r * columns + q) * B, v); });
            out += (size_t)next->g.box_size() * B;
        }
    }
}

// Where the next layer reads one block of the output of cell i.
template <class T, int B> INLINE T *output_of(Net<T> &net, int i, int block) {
    if (i + 1 == net.n_cells) return net.layers[0].x + (size_t)block * net.layers[0].inputs * B;
    const Cell<T> &next = net.cells[i + 1];
    return next.in + (size_t)block * next.inputs * next.map_size() * B;
}

// Where cell i reads one block of its input.
template <class T, int B> INLINE const T *input_of(const Cell<T> &c, const Batch<T> &b, bool is_first, int block) {
    const size_t size = (size_t)c.inputs * c.map_size() * B;
    return (is_first ? (c.reads_padded() ? b.padded : b.boxes) : c.in) + block * size;
}

template <class T, int B> INLINE void forward_layers(Net<T> &net, const Batch<T> &b, const T *weights) {
    for (int i = 0; i < net.n_layers; i++) {
        const Layer<T> &l = net.layers[i];
        const T *x = l.x ? l.x : b.pixels;
        for (int k = 0; k < b.n_blocks; k++)
            in_parts<DENSE_TILE>(l.units, [&](int u, auto n) {
                dense_forward<T, B, n()>(weights + l.weight + (size_t)u * l.line, l.line, weights + l.bias + u, x + (size_t)k * l.inputs * B,
                                         l.y + ((size_t)k * l.units + u) * B, l.inputs, l.has_relu);
            });
    }
}

template <class T, int B> INLINE void forward_cells(Net<T> &net, const Batch<T> &b) {
    for (int i = 0; i < net.n_cells; i++) {
        Cell<T> &c = net.cells[i];
        const size_t windows = c.g.n_windows(), block = c.outputs * windows * B;
        const T count = (T)windows * (T)b.n_rows;
        pack<T, B>(c, net.weights + c.weight);
        __builtin_memset(c.sums, 0, c.outputs * sizeof(T));
        for (int k = 0; k < b.n_blocks; k++) convolve<T, B>(c, input_of<T, B>(c, b, !i, k), c.z + k * block, k * block / WIDTH<T>);
        for (int o = 0; o < c.outputs; o++) {
            const T mean = c.sums[o] / count;
            T total = 0;
            for (int k = 0; k < b.n_blocks; k++) total += squares<T, B>(c.z + k * block + o * windows * B, b.live + k * B, mean, (int)windows);
            set_norm(c, net.weights, o, mean, total / count);
        }
        for (int k = 0; k < b.n_blocks; k++)
            normalise<T, B>(c, c.z + k * block, b.live + k * B, i + 1 < net.n_cells ? &c + 1 : nullptr, output_of<T, B>(net, i, k), net.line);
    }
}

}  // namespace SKECTONAS_ISA
}  // namespace skectonas
