// Every kernel, as one module.
#include "adam.cu"
#include "bias_act.cu"
#include "channel_scale.cu"
#include "noise.cu"
#include "normals.cu"
#include "sum.cu"
#include "upfirdn2d.cu"
