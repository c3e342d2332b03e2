// Package hack keeps promises about the source as a whole, which no single
// package can keep: who may import whom, and that every package says what it is
// for. It knows the rules of the architecture and nothing of what the code does.
package hack
