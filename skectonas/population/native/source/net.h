// A network, and where its values are. Memory between the layers is scratch, which a thread uses for
// one network after the other.
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
    Pooling pooling;
    bool by_places;               // with the functions of winograd.h
    int64_t weight, gamma, beta;  // places in the flat weights
    int channel;                  // place of its first channel in the statistics
    T *packed, *packed_back;      // kernels in the order in which they are read
    T *values, *products;         // of winograd.h; the former also of `average_backward`
    double *totals;               // sums over all calibration rows
    T *sums, *mean, *inverse, *factor, *shift, *sum_g, *sum_gz;  // of each output
    T *z;                         // [block][output][row][column][lane]
    Mask<T> *lower, *right;       // in the order of z
    T *g_out;                     // gradient of the output before the relu, in the order of z
    T *dz;                        // gradient of z in its order, but without pooling in slots; none for the first cell
    T *in, *din;                  // box or padded map and its gradient, except for the first cell

    INLINE_MEMBER bool reads_padded() const { return pooling != AVERAGE_POOLING; }
    INLINE_MEMBER int map_size() const { return reads_padded() ? g.pad_size() : g.box_size(); }
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
    int n_cells, n_layers, blocks, n_channels;
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
        if (c.pooling == MAX_POOLING) {
            c.lower = memory.take<Mask<T>>(n / WIDTH<T>);
            c.right = memory.take<Mask<T>>(n / WIDTH<T>);
        }
        if (i) {
            const size_t slots = blocks * c.outputs * c.g.slot_size() * B;
            c.dz = memory.take<T>(c.pooling == NO_POOLING ? slots : n);
            if (c.pooling == NO_POOLING) blank(net, c.dz, slots);
            if (c.pooling == AVERAGE_POOLING) c.values = memory.take<T>((size_t)c.outputs * B);
            const size_t map = blocks * c.inputs * c.map_size() * B;
            c.in = memory.take<T>(map);
            c.din = memory.take<T>(map);
            if (c.reads_padded()) blank(net, c.in, map);
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

}  // namespace SKECTONAS_ISA
}  // namespace skectonas
