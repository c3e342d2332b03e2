// Command hello stands in for the program in the tests of hack/image.
package main

import "fmt"

var version, commit string

func main() { fmt.Println(version, commit) }
