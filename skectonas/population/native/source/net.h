// A network: its step of training, and its inference. Memory between the layers is scratch, which a
// thread uses for one network after the other.
#pragma once

#include "batch.h"
#include "convolution.h"
#include "dense.h"
#include "memory.h"
#include "update.h"
#include "winograd.h"

namespace skectonas {
namespace SKECTONAS_ISA {

constexpr double BATCH_NORM_EPSILON = 1e-3;  // as in network.py

template <class T> struct Cell {
    Geometry g;
    int inputs, outputs;
    bool is_maximum, by_places;   // by_places: with the functions of winograd.h
    int64_t weight, gamma, beta;  // places in the flat weights
    int channel;                  // place of its first channel in the statistics
    T *packed, *packed_back;      // kernels in the order in which they are read
    T *values, *products;         // of winograd.h
    double *totals;               // sums over all calibration rows
    T *sums, *mean, *inverse, *factor, *shift, *sum_g, *sum_gz;  // of each output
    T *z;                         // [block][output][row][column][lane]
    Mask<T> *lower, *right;       // in the order of z
    T *g_out;                     // gradient of the output before the relu, in the order of z
    T *dz;                        // gradient of z: in slots for average pooling, else like z
    T *in, *din;                  // box or padded map and its gradient, except for the first cell
};

template <class T> struct Layer {
    int inputs, units, line;
    int64_t weight, bias;
    bool has_relu;
    T *x, *dx;  // [block][input][lane]; none for the batch itself
    T *xt;      // [row][input]
    T *y, *dy;  // [block][unit][lane]
};

template <class T> struct Net {
    int n_cells, n_layers, blocks, n_channels, height, width;
    int64_t size;
    Cell<T> *cells;
    Layer<T> *layers;
    T *weights, *means, *gradient, *statistics;
    T *line;         // of `fill_box`
    T *own_gradient;  // unless the gradient is asked for
    // What has to be zero before the first step in this memory.
    struct Blank { T *begin; size_t n; } *blanks;
    int n_blanks;
};

template <class T> INLINE void blank(Net<T> &net, T *begin, size_t n) { net.blanks[net.n_blanks++] = {begin, n}; }

// Places all maps of a network in memory; returns the bytes that they take.
template <class T, int B> INLINE size_t place_net(Net<T> &net, void *scratch) {
    Memory memory{(uintptr_t)scratch, 0};
    const size_t blocks = net.blocks;
    net.n_blanks = 0;
    for (int i = 0; i < net.n_cells; i++) {
        Cell<T> &c = net.cells[i];
        const size_t kernel = (size_t)c.outputs * c.inputs * (c.by_places ? PLACES : TAPS), n = blocks * c.outputs * c.g.n_windows() * B;
        c.packed = memory.take<T>(kernel);
        c.packed_back = memory.take<T>(kernel);
        c.values = c.products = nullptr;
        if (c.by_places) {
            c.values = memory.take<T>(PLACES * place_stride<T>(c.inputs > c.outputs ? c.inputs : c.outputs));
            c.products = memory.take<T>((size_t)PLACES * TILE_CHANNELS * TILE_VECTORS * WIDTH<T>);
        }
        for (T **of_outputs : {&c.sums, &c.mean, &c.inverse, &c.factor, &c.shift, &c.sum_g, &c.sum_gz}) *of_outputs = memory.take<T>(c.outputs);
        c.totals = memory.take<double>(c.outputs);
        c.z = memory.take<T>(n);
        c.g_out = memory.take<T>(n);
        c.lower = c.right = nullptr;
        c.dz = c.in = c.din = nullptr;
        if (c.is_maximum) {
            c.lower = memory.take<Mask<T>>(n / WIDTH<T>);
            c.right = memory.take<Mask<T>>(n / WIDTH<T>);
            c.dz = memory.take<T>(n);
        } else if (i) {
            const size_t slots = blocks * c.outputs * c.g.slot_size() * B;
            c.dz = memory.take<T>(slots);
            blank(net, c.dz, slots);
        }
        if (i) {
            const size_t map = blocks * c.inputs * (c.is_maximum ? c.g.pad_size() : c.g.box_size()) * B;
            c.in = memory.take<T>(map);
            c.din = memory.take<T>(map);
            if (c.is_maximum) blank(net, c.in, map);
        }
    }
    for (int i = 0; i < net.n_layers; i++) {
        Layer<T> &l = net.layers[i];
        const size_t outputs = blocks * l.units * B, tail = (size_t)WIDTH<T> * B;
        l.y = memory.take<T>(outputs + tail);
        l.dy = memory.take<T>(outputs);
        blank(net, l.y + outputs, tail);
        l.x = l.dx = l.xt = nullptr;
        if (!i && !net.n_cells) continue;
        l.xt = memory.take<T>(blocks * B * l.line);
        if (i) {
            l.x = net.layers[i - 1].y;
            l.dx = net.layers[i - 1].dy;
        } else {
            const size_t inputs = blocks * l.inputs * B;
            l.x = memory.take<T>(inputs + tail);
            l.dx = net.cells[net.n_cells - 1].g_out;
            blank(net, l.x + inputs, tail);
        }
    }
    net.line = memory.take<T>((size_t)(net.n_cells ? net.cells[0].g.columns : 0) * B);
    net.own_gradient = memory.take<T>(net.size);
    return memory.used;
}

// ------------------------------------------------------------------- forward

template <class T, int B> INLINE void pack(Cell<T> &c, const T *weight) {
    T *k = c.packed;
    const auto pack_part = [&](int first, int n, T scale) __attribute__((always_inline)) {
        for (int i = 0; i < c.inputs; i++)
            for (int t = 0; t < TAPS; t++)
                for (int o = 0; o < n; o++) *k++ = scale * weight[((size_t)(first + o) * c.inputs + i) * TAPS + t];
    };
    if (c.by_places)
        pack_places(weight, c.packed, c.outputs, c.inputs * TAPS, c.inputs, TAPS);
    else if (c.is_maximum)
        in_parts<MAXIMUM_OUTPUTS>(c.outputs, [&](int o, auto n) { pack_part(o, n, T(1)); });
    else
        in_parts<AVERAGE_OUTPUTS>(c.outputs, [&](int o, auto n) { pack_part(o, n, T(.25)); });
}

// Computes z of one block; adds its sums to those of the cell.
template <class T, int B> INLINE void convolve(Cell<T> &c, const T *in, T *z, size_t mask) {
    const size_t n = (size_t)c.g.n_windows() * B;
    const T *k = c.packed;
    if (c.by_places)
        winograd_forward<T, B>(c.g, in, k, z, c.lower + mask, c.right + mask, c.sums, c.inputs, c.outputs, c.values, c.products);
    else if (c.is_maximum)
        in_parts<MAXIMUM_OUTPUTS>(c.outputs, [&](int o, auto size) {
            const size_t at = mask + o * n / WIDTH<T>;
            maximum_forward<T, B, size()>(c.g, in, k, z + o * n, c.lower + at, c.right + at, c.sums + o, c.inputs);
            k += (size_t)TAPS * c.inputs * size();
        });
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
        } else if (next->is_maximum) {
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
    return next.in + (size_t)block * next.inputs * (next.is_maximum ? next.g.pad_size() : next.g.box_size()) * B;
}

// Where cell i reads one block of its input.
template <class T, int B> INLINE const T *input_of(const Cell<T> &c, const Batch<T> &b, bool is_first, int block) {
    const size_t size = (size_t)c.inputs * (c.is_maximum ? c.g.pad_size() : c.g.box_size()) * B;
    return (is_first ? (c.is_maximum ? b.padded : b.boxes) : c.in) + block * size;
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

// ------------------------------------------------------------------- backward

// Sets the gradient of the logits; returns the loss of the batch.
template <class T, int B> INLINE double cross_entropy(const Layer<T> &l, const Batch<T> &b) {
    constexpr int W = WIDTH<T>;
    double loss = 0;
    for (int k = 0; k < b.n_blocks; k++) {
        const T *y = l.y + (size_t)k * l.units * B, *weights = b.weights + k * B;
        T *dy = l.dy + (size_t)k * l.units * B;
        T sums[B] __attribute__((aligned(VECTOR_BYTES))), most_of[B] __attribute__((aligned(VECTOR_BYTES)));
        for (int v = 0; v < B; v += W) {
            Vector<T> most = load(y + v), sum{};
            for (int c = 1; c < l.units; c++) most = larger(most, load(y + c * B + v));
            for (int c = 0; c < l.units; c++) {
                const Vector<T> e = exponential<T>(load(y + c * B + v) - most);
                store(dy + c * B + v, e);
                sum += e;
            }
            const Vector<T> share = load(weights + v) / sum;
            for (int c = 0; c < l.units; c++) store(dy + c * B + v, load(dy + c * B + v) * share);
            store(sums + v, sum);
            store(most_of + v, most);
        }
        const int n = b.n_rows - k * B < B ? b.n_rows - k * B : B;
        for (int i = 0; i < n; i++) {
            T *own = dy + (size_t)b.labels[k * B + i] * B + i;
            loss += (double)weights[i] * (most_of[i] - y[(size_t)b.labels[k * B + i] * B + i]);
            *own -= weights[i];
        }
        // The logarithm of the product of rows of the same weight is that of their sums.
        for (int i = 0; i < n;) {
            double product = sums[i];
            const T weight = weights[i];
            for (int end = ++i + 7; i < n && i < end && weights[i] == weight; i++) product *= sums[i];
            loss += (double)weight * __builtin_log(product);
        }
    }
    return loss;
}

template <class T, int B> INLINE void backward_layers(Net<T> &net, const Batch<T> &b, const Step<T> &step) {
    for (int i = net.n_layers - 1; i >= 0; i--) {
        const Layer<T> &l = net.layers[i];
        const T *xt = l.xt ? l.xt : b.transposed, *weight = net.weights + l.weight;
        if (l.x)
            for (int k = 0; k < b.n_blocks; k++) {
                const size_t at = (size_t)k * l.inputs * B;
                transpose<T, B>(l.x + at, l.xt + (size_t)k * B * l.line, l.inputs, l.line);
                in_parts<DENSE_TILE>(l.inputs, [&](int n, auto size) {
                    dense_backward<T, B, size()>(weight + n, l.line, l.dy + (size_t)k * l.units * B, l.x + at + (size_t)n * B, l.dx + at + (size_t)n * B, l.units);
                });
            }
        constexpr int W = WIDTH<T>;
        for (int n = 0; n < l.inputs; n += 2 * W)
            in_parts<DENSE_TILE>(l.units, [&](int u, auto size) {
                const int64_t place = l.weight + (int64_t)u * l.line + n;
                if (n + W < l.inputs)
                    dense_weights<T, B, size(), 2>(step, place, l.line, l.dy + u * B, l.units * B, xt + n, l.line, b.n_blocks);
                else
                    dense_weights<T, B, size(), 1>(step, place, l.line, l.dy + u * B, l.units * B, xt + n, l.line, b.n_blocks);
            });
        for (int u = 0; u < l.units; u++) {
            Vector<T> sum{};
            for (int k = 0; k < b.n_blocks; k++)
                for (int v = 0; v < B; v += W) sum += load(l.dy + ((size_t)k * l.units + u) * B + v);
            step.gradient[l.bias + u] = sum_of<T>(sum);
        }
        update(step, l.bias, l.units);
    }
}

// Fills g of one block of a cell from the gradient of the next cell's input; adds up its sums.
template <class T, int B> INLINE void through_relu(const Cell<T> &c, const Cell<T> &next, int block) {
    const size_t windows = c.g.n_windows(), at = (size_t)block * c.outputs * windows * B;
    const int columns = c.g.columns;
    const size_t size = (size_t)(next.is_maximum ? next.g.pad_size() : next.g.box_size()) * B;
    for (int o = 0; o < c.outputs; o++) {
        const T mean = c.mean[o], factor = c.factor[o], shift = c.shift[o];
        const T *z = c.z + at + o * windows * B, *d = next.din + ((size_t)block * c.outputs + o) * size;
        T *g = c.g_out + at + o * windows * B;
        Vector<T> sum{}, product{};
        const auto take = [&](int r, int q, int v, Vector<T> gradient) __attribute__((always_inline)) {
            const size_t i = ((size_t)r * columns + q) * B + v;
            const Vector<T> own = load(z + i), kept = keep(greater(own * factor + shift, Vector<T>{}), gradient);
            store(g + i, kept);
            sum += kept;
            product += kept * (own - mean);
        };
        if (next.is_maximum) {
            for (int r = 0; r < c.g.rows; r++)
                for (int q = 0; q < columns; q++)
                    UNROLL(8)
                    for (int v = 0; v < B; v += WIDTH<T>) take(r, q, v, load(d + ((size_t)(r + 1) * next.g.pad_line() + q + 1) * B + v));
        } else
            from_box<T, B>(next.g, d, take);
        c.sum_g[o] += sum_of<T>(sum);
        c.sum_gz[o] += sum_of<T>(product);
    }
}

// Adds up the sums of g where dense layers have computed it.
template <class T, int B> INLINE void sum_gradient(const Cell<T> &c, int block) {
    constexpr int W = WIDTH<T>, N = B / W;
    const size_t windows = c.g.n_windows(), at = (size_t)block * c.outputs * windows * B;
    for (int o = 0; o < c.outputs; o++) {
        const T *z = c.z + at + o * windows * B, *g = c.g_out + at + o * windows * B, mean = c.mean[o];
        Vector<T> sums[N] = {}, products[N] = {};
        for (size_t i = 0; i < windows; i++, z += B, g += B) {
            UNROLL(8)
            for (int v = 0; v < N; v++) {
                const Vector<T> own = load(g + v * W);
                sums[v] += own;
                products[v] += own * (load(z + v * W) - mean);
            }
        }
        for (int v = 1; v < N; v++) sums[0] += sums[v], products[0] += products[v];
        c.sum_g[o] += sum_of<T>(sums[0]);
        c.sum_gz[o] += sum_of<T>(products[0]);
    }
}

// Gradient of z: factor g + a z + b, and zero in lanes without a row.
template <class T> struct Slope {
    T factor, a, b;
};
template <class T> INLINE Slope<T> slope_of(const Cell<T> &c, int o, T count) {
    const T f = c.factor[o], a = -f * c.inverse[o] * c.inverse[o] * c.sum_gz[o] / count;
    return {f, a, -f * c.sum_g[o] / count - a * c.mean[o]};
}

template <class T, int B> INLINE void fill_dz(const Cell<T> &c, const T *live, int block, T count) {
    constexpr int W = WIDTH<T>;
    const size_t windows = c.g.n_windows();
    const int rows = c.g.rows, columns = c.g.columns;
    Vector<T> lanes[B / W];
    for (int v = 0; v < B / W; v++) lanes[v] = load(live + v * W);
    for (int o = 0; o < c.outputs; o++) {
        const Slope<T> s = slope_of(c, o, count);
        const size_t map = (size_t)block * c.outputs + o;
        const T *z = c.z + map * windows * B, *g = c.g_out + map * windows * B;
        const auto value = [&](int v) __attribute__((always_inline)) { return (s.factor * load(g + v) + (s.a * load(z + v) + s.b)) * lanes[v / W]; };
        for (int r = 0; r < rows; r++)
            for (int q = 0; q < columns; q++, z += B, g += B) {
                T *out = c.is_maximum ? c.dz + (map * windows + (size_t)r * columns + q) * B
                                      : c.dz + (map * c.g.slot_size() + (size_t)(c.g.slot_row(r) + 1) * c.g.slot_line() + c.g.slot_column(q) + 1) * B;
                UNROLL(8)
                for (int v = 0; v < B; v += W) store(out + v, value(v));
            }
    }
}

template <class T, int B> INLINE void backward_maximum(Net<T> &net, Cell<T> &c, const Batch<T> &b, bool is_first, T *gradient, T count) {
    constexpr int W = WIDTH<T>;
    const size_t windows = c.g.n_windows(), block = c.outputs * windows * B;
    if (c.by_places && !is_first) pack_places(net.weights + c.weight, c.packed_back, c.inputs, TAPS, c.outputs, c.inputs * TAPS);
    for (int k = 0; k < b.n_blocks; k++) {
        fill_dz<T, B>(c, b.live + k * B, k, count);
        const T *in = input_of<T, B>(c, b, is_first, k), *dz = c.dz + k * block;
        const Mask<T> *lower = c.lower + k * block / W, *right = c.right + k * block / W;
        for (int o = 0; o < c.outputs; o++) {
            const T *own = dz + o * windows * B;
            const size_t at = o * windows * B / W;
            maximum_kernels<T, B>(c.g, in, lower + at, right + at, gradient + (size_t)o * c.inputs * TAPS, c.inputs,
                                  [&](size_t i) __attribute__((always_inline)) { return load(own + i); });
        }
        if (is_first) continue;
        const size_t size = (size_t)c.inputs * c.g.pad_size() * B;
        __builtin_memset(c.din + k * size, 0, size * sizeof(T));
        if (c.by_places)
            winograd_backward<T, B>(c.g, dz, lower, right, c.packed_back, c.din + k * size, c.outputs, c.inputs, c.values, c.products);
        else
            maximum_backward<T, B>(c.g, dz, lower, right, net.weights + c.weight, c.din + k * size, c.outputs, c.inputs);
    }
}

template <class T, int B> INLINE void backward_average(Net<T> &net, Cell<T> &c, const Batch<T> &b, bool is_first, T *gradient, T count) {
    constexpr int W = WIDTH<T>;
    const size_t windows = c.g.n_windows();
    const int columns = c.g.columns;
    if (!is_first) {
        const T *weight = net.weights + c.weight;
        T *k = c.packed_back;
        in_parts<AVERAGE_INPUTS>(c.inputs, [&](int first, auto n) {
            for (int o = 0; o < c.outputs; o++)
                for (int t = 0; t < TAPS; t++)
                    for (int i = 0; i < n; i++) *k++ = T(.25) * weight[((size_t)o * c.inputs + first + i) * TAPS + t];
        });
    }
    for (int k = 0; k < b.n_blocks; k++) {
        const T *in = input_of<T, B>(c, b, is_first, k);
        const size_t map = (size_t)k * c.outputs;
        if (is_first) {  // nothing else needs dz, so it is not stored
            Vector<T> lanes[B / W];
            for (int v = 0; v < B / W; v++) lanes[v] = load(b.live + k * B + v * W);
            in_parts<AVERAGE_KERNELS>(c.outputs, [&](int o, auto n) {
                Slope<T> slopes[n()];
                for (int j = 0; j < n; j++) slopes[j] = slope_of(c, o + j, count);
                const T *z = c.z + (map + o) * windows * B, *g = c.g_out + (map + o) * windows * B;
                average_kernels<T, B, n()>(c.g, in, gradient + (size_t)o * c.inputs * TAPS, c.inputs, [&](int j, int r, int q, int v) __attribute__((always_inline)) {
                    const size_t i = (j * windows + (size_t)r * columns + q) * B + v;
                    return (slopes[j].factor * load(g + i) + (slopes[j].a * load(z + i) + slopes[j].b)) * lanes[v / W];
                });
            });
            continue;
        }
        fill_dz<T, B>(c, b.live + k * B, k, count);
        const size_t slots = (size_t)c.g.slot_size() * B;
        in_parts<AVERAGE_KERNELS>(c.outputs, [&](int o, auto n) {
            const T *dz = c.dz + (map + o) * slots;
            average_kernels<T, B, n()>(c.g, in, gradient + (size_t)o * c.inputs * TAPS, c.inputs, [&](int j, int r, int q, int v) __attribute__((always_inline)) {
                return load(dz + j * slots + ((size_t)(c.g.slot_row(r) + 1) * c.g.slot_line() + c.g.slot_column(q) + 1) * B + v);
            });
        });
        const T *kernel = c.packed_back;
        const size_t box = (size_t)c.g.box_size() * B;
        in_parts<AVERAGE_INPUTS>(c.inputs, [&](int first, auto n) {
            average_backward<T, B, n()>(c.g, c.dz + map * slots, kernel, c.din + ((size_t)k * c.inputs + first) * box, c.outputs);
            kernel += (size_t)TAPS * c.outputs * n();
        });
    }
}

template <class T, int B> INLINE void backward_cells(Net<T> &net, const Batch<T> &b, const Step<T> &step) {
    for (int i = net.n_cells - 1; i >= 0; i--) {
        Cell<T> &c = net.cells[i];
        const T count = (T)c.g.n_windows() * (T)b.n_rows;
        __builtin_memset(c.sum_g, 0, c.outputs * sizeof(T));
        __builtin_memset(c.sum_gz, 0, c.outputs * sizeof(T));
        for (int k = 0; k < b.n_blocks; k++) {
            if (i + 1 < net.n_cells)
                through_relu<T, B>(c, net.cells[i + 1], k);
            else
                sum_gradient<T, B>(c, k);
        }
        T *gradient = step.gradient + c.weight;
        const int size = c.outputs * c.inputs * TAPS;
        __builtin_memset(gradient, 0, size * sizeof(T));
        if (c.is_maximum)
            backward_maximum<T, B>(net, c, b, !i, gradient, count);
        else
            backward_average<T, B>(net, c, b, !i, gradient, count);
        for (int o = 0; o < c.outputs; o++) {
            step.gradient[c.gamma + o] = c.sum_gz[o] * c.inverse[o];
            step.gradient[c.beta + o] = c.sum_g[o];
        }
        update(step, c.weight, size);
        update(step, c.gamma, c.outputs);
        update(step, c.beta, c.outputs);
    }
}

// One step of training; returns the loss of the batch.
template <class T, int B> INLINE double train_net(Net<T> &net, const Batch<T> &b, const Update &u) {
    const Step<T> step = step_of(u, net.weights, u.rule.kind == STORE ? net.gradient : net.own_gradient);
    forward_cells<T, B>(net, b);
    forward_layers<T, B>(net, b, net.weights);
    const double loss = cross_entropy<T, B>(net.layers[net.n_layers - 1], b);
    backward_layers<T, B>(net, b, step);
    backward_cells<T, B>(net, b, step);
    return loss;
}

// ------------------------------------------------------------------- inference with the means of the weights

template <class T> INLINE void use_statistics(Net<T> &net) {
    for (int i = 0; i < net.n_cells; i++) {
        Cell<T> &c = net.cells[i];
        for (int o = 0; o < c.outputs; o++) set_norm(c, net.means, o, net.statistics[c.channel + o], net.statistics[net.n_channels + c.channel + o]);
    }
}

// Sets the statistics of all cells, layer after layer, to those of some batches as one. `memory`
// holds z of two cells for all of them.
template <class T, int B> INLINE void calibrate_net(Net<T> &net, T *before, T *after, const Batches &batches) {
    const int64_t n_blocks = (batches.n_rows + B - 1) / B;
    T live[B] __attribute__((aligned(VECTOR_BYTES)));
    const auto lanes_of = [&](int64_t k) {
        for (int64_t i = 0; i < B; i++) live[i] = k * B + i < batches.n_rows;
        return live;
    };
    for (int i = 0; i < net.n_cells; i++) {
        Cell<T> &c = net.cells[i];
        const size_t windows = c.g.n_windows(), block = c.outputs * windows * B;
        const double count = (double)windows * (double)batches.n_rows;
        pack<T, B>(c, net.means + c.weight);
        for (int o = 0; o < c.outputs; o++) c.totals[o] = 0;
        const auto convolve_block = [&](const T *in, int64_t k) {
            __builtin_memset(c.sums, 0, c.outputs * sizeof(T));
            convolve<T, B>(c, in, after + k * block, 0);
            for (int o = 0; o < c.outputs; o++) c.totals[o] += c.sums[o];
        };
        if (i) {
            const Cell<T> &p = net.cells[i - 1];
            const size_t own = (size_t)p.outputs * p.g.n_windows() * B;
            for (int64_t k = 0; k < n_blocks; k++) {
                normalise<T, B>(p, before + k * own, lanes_of(k), &c, c.in, net.line);
                convolve_block(c.in, k);
            }
        } else {
            int64_t k = 0;
            for (int64_t s = 0; s < batches.n; s++) {
                const Batch<T> &b = *(const Batch<T> *)batches.at(batches.context, s);
                for (int own = 0; own < b.n_blocks; own++) convolve_block(input_of<T, B>(c, b, true, own), k++);
            }
        }
        for (int o = 0; o < c.outputs; o++) {
            const T mean = (T)(c.totals[o] / count);
            double sum = 0;
            for (int64_t k = 0; k < n_blocks; k++) sum += squares<T, B>(after + k * block + o * windows * B, lanes_of(k), mean, (int)windows);
            net.statistics[c.channel + o] = mean;
            net.statistics[net.n_channels + c.channel + o] = (T)(sum / count);
            set_norm(c, net.means, o, mean, (T)(sum / count));
        }
        T *swapped = before;
        before = after;
        after = swapped;
    }
}

// Probabilities and losses of a batch; the statistics are those that are set.
template <class T, int B> INLINE void infer_net(Net<T> &net, const Batch<T> &b, T *probabilities, double &loss, int32_t &is_finite) {
    constexpr int W = WIDTH<T>;
    use_statistics(net);
    for (int i = 0; i < net.n_cells; i++) {
        Cell<T> &c = net.cells[i];
        const size_t block = (size_t)c.outputs * c.g.n_windows() * B;
        pack<T, B>(c, net.means + c.weight);
        for (int k = 0; k < b.n_blocks; k++) {
            convolve<T, B>(c, input_of<T, B>(c, b, !i, k), c.z + k * block, k * block / W);
            normalise<T, B>(c, c.z + k * block, b.live + k * B, i + 1 < net.n_cells ? &c + 1 : nullptr, output_of<T, B>(net, i, k), net.line);
        }
    }
    forward_layers<T, B>(net, b, net.means);
    const Layer<T> &l = net.layers[net.n_layers - 1];
    for (int k = 0; k < b.n_blocks; k++) {
        const T *y = l.y + (size_t)k * l.units * B;
        T *e = l.dy;
        T sums[B] __attribute__((aligned(VECTOR_BYTES))), most_of[B] __attribute__((aligned(VECTOR_BYTES)));
        for (int v = 0; v < B; v += W) {
            Vector<T> most = load(y + v), sum{};
            for (int c = 1; c < l.units; c++) most = larger(most, load(y + c * B + v));
            for (int c = 0; c < l.units; c++) {
                const Vector<T> own = exponential<T>(load(y + c * B + v) - most);
                store(e + c * B + v, own);
                sum += own;
            }
            store(sums + v, sum);
            store(most_of + v, most);
        }
        for (int i = 0; i < B && k * B + i < b.n_rows; i++, probabilities += l.units) {
            for (int c = 0; c < l.units; c++) {
                probabilities[c] = e[c * B + i] / sums[i];
                if (!(__builtin_fabs((double)y[c * B + i]) <= 1.7976931348623157e308)) is_finite = 0;
            }
            const double own = most_of[i] - (double)y[(size_t)b.labels[k * B + i] * B + i] + __builtin_log((double)sums[i]);
            if (b.weights[k * B + i] > 0) loss += (double)b.weights[k * B + i] * own;
        }
    }
}

}  // namespace SKECTONAS_ISA
}  // namespace skectonas
