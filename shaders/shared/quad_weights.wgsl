// The 8 weights of each of 4 source channels at one tap, as `correlate` wants them.

struct QuadWeights {
    first: Eight,
    second: Eight,
    third: Eight,
    fourth: Eight,
}
