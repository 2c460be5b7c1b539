/* All that depends on the width of a register. */
#include "lanes.h"
#include "step.h"
#include "train.h"
#include "gru.h"
#include "adam.h"

#undef vec
#undef ints
#undef loose
#undef INLINE
#undef PANEL
#undef ALL
#undef BITS_FOUR
#undef REAL_FOUR
#undef PICK_FOUR
#undef NAME
#undef LANES
