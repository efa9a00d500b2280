// The engine, compiled once for each instruction set in the namespace SKECTONAS_ISA.
#include "engine.h"

namespace skectonas {
namespace SKECTONAS_ISA {

// The size of the largest vectors that this variant uses.
int vector_bytes() {
#if defined __AVX512F__
    return 64;
#elif defined __AVX2__
    return 32;
#else
    return 16;
#endif
}

}  // namespace SKECTONAS_ISA
}  // namespace skectonas
