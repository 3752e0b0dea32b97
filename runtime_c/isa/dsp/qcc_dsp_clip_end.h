/**
 * @file qcc_dsp_clip_end.h
 * @brief Undefines what qcc_dsp_clip.h defines.
 */
#undef QCC_DSP_SATURATES
#undef QCC_DSP_BY_USAT
#undef QCC_DSP_ALL4
#undef QCC_DSP_ALL2
#undef QCC_DSP_UP4
#undef QCC_DSP_UP2
#undef QCC_DSP_DOWN
#undef QCC_DSP_USAT
#undef QCC_DSP_SSAT
#undef QCC_DSP_FIT4
#undef QCC_DSP_FIT2
#undef QCC_DSP_CLIP
#undef QCC_DSP_CLIP_HI
#undef QCC_DSP_CLIP_LO
#undef QCC_DSP_LIMIT_HI
#undef QCC_DSP_LIMIT_LO
#undef QCC_DSP_LIMITS
#undef QCC_DSP_PACK4
#undef QCC_DSP_PACK2
