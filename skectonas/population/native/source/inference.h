// Calibration and inference, with the means of the weights.
#pragma once

#include "forward.h"

namespace skectonas {
namespace SKECTONAS_ISA {

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
                const Vector<T> x = load(y + c * B + v) - most;
                const Vector<T> own = choose(greater(all(LOWEST<T>), x), Vector<T>{}, exponential<T>(x));
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
