//go:build !amd64

package confine

const sysSeccomp = 277 // arm64, riscv64, loong64: the numbers of asm-generic/unistd.h
