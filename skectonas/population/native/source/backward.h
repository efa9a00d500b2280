// The backward pass, and a step of training.
#pragma once

#include "forward.h"

namespace skectonas {
namespace SKECTONAS_ISA {

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
    const size_t size = (size_t)next.map_size() * B;
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
        if (next.reads_padded()) {
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

    INLINE_MEMBER Vector<T> at(const T *g, const T *z, Vector<T> lanes) const { return (factor * load(g) + (a * load(z) + b)) * lanes; }
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
        for (int r = 0; r < rows; r++)
            for (int q = 0; q < columns; q++, z += B, g += B) {
                T *out = c.pooling == NO_POOLING ? c.dz + (map * c.g.slot_size() + (size_t)(r + 1) * c.g.slot_line() + q + 1) * B
                                                 : c.dz + (map * windows + (size_t)r * columns + q) * B;
                UNROLL(8)
                for (int v = 0; v < B; v += W) store(out + v, s.at(g + v, z + v, lanes[v / W]));
            }
    }
}

template <class T, int B> INLINE void backward_maximum(Net<T> &net, Cell<T> &c, const Batch<T> &b, bool is_first, T *gradient, T count) {
    constexpr int W = WIDTH<T>, N = B / W;
    const size_t windows = c.g.n_windows(), block = c.outputs * windows * B;
    if (c.by_places && !is_first) pack_places(net.weights + c.weight, c.packed_back, c.inputs, TAPS, c.outputs, c.inputs * TAPS);
    for (int k = 0; k < b.n_blocks; k++) {
        const T *in = input_of<T, B>(c, b, is_first, k);
        const Mask<T> *lower = c.lower + k * block / W, *right = c.right + k * block / W;
        const auto kernels = [&](int o, auto &&slope) __attribute__((always_inline)) {
            const size_t at = o * windows * B / W;
            maximum_kernels<T, B>(c.g, in, lower + at, right + at, gradient + (size_t)o * c.inputs * TAPS, c.inputs, slope);
        };
        if (is_first) {  // nothing else needs dz, so it is not stored
            Vector<T> lanes[N];
            for (int v = 0; v < N; v++) lanes[v] = load(b.live + k * B + v * W);
            for (int o = 0; o < c.outputs; o++) {
                const Slope<T> s = slope_of(c, o, count);
                const T *z = c.z + k * block + o * windows * B, *g = c.g_out + k * block + o * windows * B;
                kernels(o, [&](size_t i) __attribute__((always_inline)) { return s.at(g + i, z + i, lanes[i / W % N]); });
            }
            continue;
        }
        fill_dz<T, B>(c, b.live + k * B, k, count);
        const T *dz = c.dz + k * block;
        for (int o = 0; o < c.outputs; o++) {
            const T *own = dz + o * windows * B;
            kernels(o, [&](size_t i) __attribute__((always_inline)) { return load(own + i); });
        }
        const size_t size = (size_t)c.inputs * c.g.pad_size() * B;
        __builtin_memset(c.din + k * size, 0, size * sizeof(T));
        if (c.by_places)
            winograd_backward<T, B>(c.g, dz, lower, right, c.packed_back, c.din + k * size, c.outputs, c.inputs, c.values, c.products);
        else
            maximum_backward<T, B>(c.g, dz, lower, right, net.weights + c.weight, c.din + k * size, c.outputs, c.inputs);
    }
}

// With average pooling or none.
template <class T, int B, bool POOLS> INLINE void backward_linear(Net<T> &net, Cell<T> &c, const Batch<T> &b, bool is_first, T *gradient, T count) {
    constexpr int W = WIDTH<T>;
    const size_t windows = c.g.n_windows();
    const int columns = c.g.columns;
    if (!is_first) {
        const T *weight = net.weights + c.weight;
        const int distance = c.inputs * TAPS;
        if (POOLS)
            pack_taps<1>(weight, c.packed_back, c.inputs, TAPS, c.outputs, distance, T(.25));
        else if (c.by_places)
            pack_places(weight, c.packed_back, c.inputs, TAPS, c.outputs, distance, true);
        else
            pack_taps<PATCH_OUTPUTS>(weight, c.packed_back, c.inputs, TAPS, c.outputs, distance, T(1), true);
    }
    for (int k = 0; k < b.n_blocks; k++) {
        const T *in = input_of<T, B>(c, b, is_first, k);
        const size_t map = (size_t)k * c.outputs;
        if (is_first) {  // nothing else needs dz, so it is not stored
            Vector<T> lanes[B / W];
            for (int v = 0; v < B / W; v++) lanes[v] = load(b.live + k * B + v * W);
            in_parts<POOLS ? AVERAGE_KERNELS : PATCH_KERNELS>(c.outputs, [&](int o, auto n) {
                Slope<T> slopes[n()];
                for (int j = 0; j < n; j++) slopes[j] = slope_of(c, o + j, count);
                const T *z = c.z + (map + o) * windows * B, *g = c.g_out + (map + o) * windows * B;
                T *own = gradient + (size_t)o * c.inputs * TAPS;
                linear_kernels<T, B, n(), POOLS>(c.g, in, own, c.inputs, [&](int j, int r, int q, int v) __attribute__((always_inline)) -> Vector<T> {
                    if (!POOLS && (r >= c.g.rows || q >= columns)) return Vector<T>{};
                    const size_t i = (j * windows + (size_t)r * columns + q) * B + v;
                    return slopes[j].at(g + i, z + i, lanes[v / W]);
                });
            });
            continue;
        }
        fill_dz<T, B>(c, b.live + k * B, k, count);
        const size_t of_output = (POOLS ? windows : (size_t)c.g.slot_size()) * B;
        const T *dz = c.dz + map * of_output;
        in_parts<POOLS ? AVERAGE_KERNELS : PATCH_KERNELS>(c.outputs, [&](int o, auto n) {
            const T *own = dz + o * of_output;
            linear_kernels<T, B, n(), POOLS>(c.g, in, gradient + (size_t)o * c.inputs * TAPS, c.inputs, [&](int j, int r, int q, int v) __attribute__((always_inline)) {
                const size_t i = POOLS ? (size_t)r * columns + q : (size_t)(r + 1) * c.g.slot_line() + q + 1;
                return load(own + j * of_output + i * B + v);
            });
        });
        T *din = c.din + (size_t)k * c.inputs * c.map_size() * B;
        if (POOLS)
            average_backward<T, B>(c.g, dz, c.packed_back, din, c.outputs, c.inputs, c.values);
        else  // a convolution of the gradient of z, which has a border of zeros as well
            convolve_padded<T, B>(c, dz, c.packed_back, (T *)nullptr, c.outputs, c.inputs, KeepAll<T, B>{c.g, din + (c.g.pad_line() + 1) * B, c.g.pad_line(), c.g.pad_size()});
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
        if (c.pooling == MAX_POOLING)
            backward_maximum<T, B>(net, c, b, !i, gradient, count);
        else if (c.pooling == AVERAGE_POOLING)
            backward_linear<T, B, true>(net, c, b, !i, gradient, count);
        else
            backward_linear<T, B, false>(net, c, b, !i, gradient, count);
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

}  // namespace SKECTONAS_ISA
}  // namespace skectonas
