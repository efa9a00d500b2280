// What the parts of the library share: the C interface, and the table of kernels of an
// instruction set. Only plain structures are here. A function in this file would be compiled for
// several instruction sets, and the linker would keep any one of them.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(_WIN32)
#define SKECTONAS_EXPORT extern "C" __declspec(dllexport)
#else
#define SKECTONAS_EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace skectonas {

// The images that all networks of a session take, and the size of a batch. In Python:
// `session._Input`.
struct Input {
    int32_t height, width, channels;
    int32_t batch;                 // rows of a training batch
    int32_t pixels;                // type of the pixels: 0 for 8-bit, 1 for float32, 2 for float64
    int32_t is_double;             // whether the networks have float64 weights
    int32_t steps_at_once;         // batches that are loaded at once
    int32_t shift, flip, erase;    // how images are varied
    const double *offset, *scale;  // of each channel
};

// How a cell pools. In Python: `topology.ALL_POOLINGS`.
enum Pooling : int32_t { AVERAGE_POOLING = 0, MAX_POOLING = 1, NO_POOLING = 2 };

// A network, and where its results go. In Python: `session._Network`.
struct Network {
    int32_t n_cells, n_layers;           // layers: the dense ones and the output
    const int32_t *channels, *poolings;  // of each cell: its channels; a `Pooling`
    const int32_t *units;                // of each layer
    const int64_t *places;               // of weight, gamma, beta of each cell; weight, bias of each layer
    int64_t size;                        // values of the flat weights
    void *weights, *means, *gradient;    // flat
    void *statistics;                    // mean and variance of all channels of all cells
    int64_t n_steps;                     // of the whole training
    double last_rate;                    // weight of the last step in the mean
    double loss;                         // sum of the losses since it was set to zero
    void *probabilities;                 // of the validation rows
    double validation_loss;
    int32_t is_finite;                   // whether all validation logits were
    int32_t is_due;                      // whether it is evaluated at the end of this part
};

// Rows of images in some order. In Python: `session._Rows`.
struct Rows {
    const void *images;
    const int64_t *places;    // which of the images
    const int64_t *labels;
    const double *weights;    // in the loss: the mean of a batch or of all rows is a sum with these
    const int64_t *variants;  // of the images; null if they are taken as they are
    int64_t n;
};

// How gradients change the weights. In Python: `session._Rule`.
enum RuleKind : int32_t { STORE = 0, PLAIN = 1, MOMENTUM = 2, ADAM = 3 };
struct Rule {
    int32_t kind;
    int32_t nesterov;      // MOMENTUM
    int32_t decoupled;     // ADAM: whether the decay of weights is that of AdamW
    double momentum, dampening, weight_decay;
    double beta1, beta2, epsilon;
};

// A part of a training: some steps, then perhaps an evaluation. In Python: `session._Part`.
struct Part {
    Rows train, validation;
    int64_t first_step, n_steps;
    const double *rates;      // learning rate of each step
    const double *snapshots;  // after each step: weight of the present weights in the mean, or 0
    int32_t calibrates;       // whether statistics are computed before the validation
    int64_t first_row;        // of the validation rows of this part among all
};

// One step of the rule for a network.
struct Update {
    Rule rule;
    double rate;
    int64_t step;  // from 0
    void *first, *second;  // state of the rule, flat
};

// The rows for the statistics of the batch norm, batch by batch.
struct Batches {
    void *context;
    const void *(*at)(void *context, int64_t i);
    int64_t n, n_rows;
};

// The functions of an instruction set for one type of weights. All memory is aligned to 64 bytes.
struct Kernels {
    int32_t lanes;  // rows of a block of a batch
    void *(*make_net)(const Input &, const Network &);
    void (*free_net)(void *net);
    size_t (*scratch_size)(void *net);
    size_t (*calibration_size)(void *net, int64_t n_batches);
    size_t (*batch_size)(const Input &, int32_t inputs);
    size_t (*loading_size)(const Input &);
    int32_t (*inputs_of)(const Network &);
    double (*cost)(void *net);  // of a step, in multiplications
    void (*prepare_loading)(const Input &, int32_t inputs, void *memory);
    void (*load)(const Input &, int32_t inputs, const Rows &, int64_t first, int64_t n, void *batch,
                 void *memory);
    // Lets a net use scratch memory, and clears what has to be zero if another has used it.
    void (*move)(void *net, void *scratch, bool clears);
    void (*train)(void *net, void *batch, const Update &, double *loss);
    void (*average)(const Network &, double rate);
    void (*calibrate)(void *net, void *memory, const Batches &);
    void (*infer)(void *net, void *batch, int64_t first_row, Network &);
};

}  // namespace skectonas
