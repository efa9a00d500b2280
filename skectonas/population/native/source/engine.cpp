// The kernels of one instruction set. The file is compiled once for each; its functions are in a
// namespace of their own, and it uses no inline function that another file could share.

#include <cstdlib>

#include "backward.h"
#include "inference.h"

namespace skectonas {
namespace SKECTONAS_ISA {

template <class T, int B> struct Engine {
    static void *make_net(const Input &in, const Network &n) {
        const size_t cells = (sizeof(Cell<T>) * n.n_cells + 15) / 16 * 16, layers = (sizeof(Layer<T>) * n.n_layers + 15) / 16 * 16;
        const size_t head = (sizeof(Net<T>) + 15) / 16 * 16;
        char *memory = (char *)std::calloc(1, head + cells + layers + sizeof(typename Net<T>::Blank) * (2 * n.n_cells + 2 * n.n_layers));
        if (!memory) return nullptr;
        Net<T> &net = *(Net<T> *)memory;
        net.n_cells = n.n_cells;
        net.n_layers = n.n_layers;
        net.blocks = (in.batch + B - 1) / B;
        net.size = n.size;
        net.cells = (Cell<T> *)(memory + head);
        net.layers = (Layer<T> *)(memory + head + cells);
        net.blanks = (typename Net<T>::Blank *)(memory + head + cells + layers);
        net.weights = (T *)n.weights;
        net.means = (T *)n.means;
        net.gradient = (T *)n.gradient;
        net.statistics = (T *)n.statistics;
        const int64_t *place = n.places;
        int height = in.height, width = in.width, channels = in.channels;
        for (int i = 0; i < n.n_cells; i++) {
            Cell<T> &c = net.cells[i];
            c.pooling = (Pooling)n.poolings[i];
            c.g = geometry_of(height, width, c.pooling != NO_POOLING);
            c.inputs = channels;
            c.outputs = channels = n.channels[i];
            c.by_places = c.reads_padded() && c.inputs >= FEWEST_CHANNELS && c.outputs >= FEWEST_CHANNELS;
            c.weight = *place++;
            c.gamma = *place++;
            c.beta = *place++;
            c.channel = net.n_channels;
            net.n_channels += channels;
            height = c.g.rows;
            width = c.g.columns;
        }
        int inputs = channels * height * width;
        for (int i = 0; i < n.n_layers; i++) {
            Layer<T> &l = net.layers[i];
            l.inputs = inputs;
            l.units = inputs = n.units[i];
            l.line = line_of(l.inputs);
            l.has_relu = i + 1 < n.n_layers;
            l.weight = *place++;
            l.bias = *place++;
        }
        return memory;
    }

    static size_t scratch_size(void *memory) { return place_net<T, B>(*(Net<T> *)memory, nullptr); }

    static size_t calibration_size(void *memory, int64_t n_batches) { return 2 * largest_z(*(Net<T> *)memory, n_batches) * sizeof(T); }

    static size_t largest_z(const Net<T> &net, int64_t n_batches) {
        size_t most = 0;
        for (int i = 0; i < net.n_cells; i++) {
            const size_t own = (size_t)n_batches * net.blocks * net.cells[i].outputs * net.cells[i].g.n_windows() * B;
            if (own > most) most = own;
        }
        return most;
    }

    static size_t batch_size(const Input &in, int32_t inputs) {
        Memory memory{0, 0};
        place_batch<T, B>(in, inputs, memory);
        return memory.used;
    }

    static size_t loading_size(const Input &in) {
        Memory memory{0, 0};
        place_loading<T, B>(in, memory);
        return memory.used;
    }

    static int32_t inputs_of(const Network &n) { return n.n_cells ? (n.poolings[0] == AVERAGE_POOLING ? BOXES : PADDED) : PIXELS; }

    static double cost(void *memory) {
        const Net<T> &net = *(Net<T> *)memory;
        double total = 0;
        for (int i = 0; i < net.n_cells; i++) {
            const Cell<T> &c = net.cells[i];
            total += (c.pooling == MAX_POOLING ? 4. : 1.) * (i ? 3 : 2) * TAPS * c.inputs * c.outputs * c.g.n_windows();
        }
        for (int i = 0; i < net.n_layers; i++) total += 3. * net.layers[i].inputs * net.layers[i].units;
        return total;
    }

    static void prepare_loading(const Input &in, int32_t inputs, void *memory) {
        Memory pieces{(uintptr_t)memory, 0};
        fill_loading<T, B>(in, inputs, place_loading<T, B>(in, pieces));
    }

    static void load(const Input &in, int32_t inputs, const Rows &rows, int64_t first, int64_t n, void *batch, void *memory) {
        Memory pieces{(uintptr_t)batch, 0};
        load_batch<T, B>(in, inputs, rows, first, n, *place_batch<T, B>(in, inputs, pieces), memory);
    }

    static void move(void *memory, void *scratch, bool clears) {
        Net<T> &net = *(Net<T> *)memory;
        place_net<T, B>(net, scratch);
        if (!clears) return;
        for (int i = 0; i < net.n_blanks; i++) __builtin_memset(net.blanks[i].begin, 0, net.blanks[i].n * sizeof(T));
    }

    static void train(void *memory, void *batch, const Update &update, double *loss) {
        *loss += train_net<T, B>(*(Net<T> *)memory, *(Batch<T> *)batch, update);
    }

    static void average(const Network &n, double rate) {
        const T *weights = (const T *)n.weights, share = (T)rate, rest = (T)1 - share;
        T *means = (T *)n.means;
        for (int64_t i = 0; i < n.size; i++) {
            const T difference = weights[i] - means[i];
            means[i] = rate < .5 ? means[i] + share * difference : weights[i] - rest * difference;
        }
    }

    static void calibrate(void *memory, void *maps, const Batches &batches) {
        Net<T> &net = *(Net<T> *)memory;
        T *before = (T *)maps;
        calibrate_net<T, B>(net, before, before + largest_z(net, batches.n), batches);
    }

    static void infer(void *memory, void *batch, int64_t first_row, Network &n) {
        Net<T> &net = *(Net<T> *)memory;
        const int classes = net.layers[net.n_layers - 1].units;
        infer_net<T, B>(net, *(Batch<T> *)batch, (T *)n.probabilities + first_row * classes, n.validation_loss, n.is_finite);
    }

    static const Kernels kernels;
};

template <class T, int B>
const Kernels Engine<T, B>::kernels = {
    B,    make_net,        std::free, scratch_size, calibration_size, batch_size, loading_size, inputs_of,
    cost, prepare_loading, load,      move,         train,            average,    calibrate,    infer,
};

// The kernels for a type of weights and batches of some rows. One block of 32 rows is faster than two
// of 16, but the lanes of the last block that have no row are computed as well.
const Kernels &kernels_for(bool is_double, int n_rows) {
    if (is_double) return Engine<double, 16>::kernels;
    return up(n_rows, 16) < up(n_rows, 32) ? Engine<float, 16>::kernels : Engine<float, 32>::kernels;
}

int vector_bytes() { return VECTOR_BYTES; }

}  // namespace SKECTONAS_ISA
}  // namespace skectonas
