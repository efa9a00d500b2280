// Which instruction sets there are.
#pragma once

#include "interface.h"

namespace skectonas {

// The kernels of a variant for a type of weights and batches of some rows; null if there is no such
// variant.
const Kernels *find_kernels(const char *name, bool is_double, int n_rows);

}  // namespace skectonas
