package blockdev

import (
	"fmt"
	"slices"
	"strings"
)

// Objection is a reason why a device is not provably blank.
type Objection struct {
	Reason  string // one word in CamelCase
	Message string // goes on after the device's name: "is mounted at /var"
}

// The reasons, in the order a person would check them.
const (
	NotFound      = "NotFound"
	NotABlock     = "NotABlockDevice"
	WrongType     = "WrongType"
	IsRoot        = "IsRoot"
	IsMounted     = "Mounted"
	IsSwap        = "IsSwap"
	IsFailing     = "Failing"
	IsReadOnly    = "ReadOnly"
	IsEmpty       = "Empty"
	HasPartitions = "HasPartitions"
	HasHolder     = "HasHolder"
	HasSignature  = "HasSignature"
	HasData       = "HasData"
	IsInUse       = "InUse"
)

// rules are read top to bottom; final ones leave nothing more to ask.
var rules = []struct {
	reason  string
	applies func(Evidence) bool
	message func(Evidence) string
	final   bool
}{
	{NotFound, func(e Evidence) bool { return !e.Exists }, says("does not exist"), true},
	{NotABlock, func(e Evidence) bool { return !e.IsBlock }, says("is not a block device"), true},
	{WrongType, func(e Evidence) bool { return typeObjections[e.Type] != "" }, func(e Evidence) string { return typeObjections[e.Type] }, false},
	{IsRoot, func(e Evidence) bool { return e.IsRoot }, says("holds the root file system"), false},
	{IsMounted, func(e Evidence) bool { return len(e.Mountpoints) > 0 }, func(e Evidence) string {
		return "is mounted at " + some(e.Mountpoints)
	}, false},
	{IsSwap, func(e Evidence) bool { return e.Swap }, says("is used as swap space"), false},
	{IsFailing, func(e Evidence) bool { return e.Failing != "" }, func(e Evidence) string {
		return "is failing: the kernel calls it " + e.Failing
	}, false},
	{IsReadOnly, func(e Evidence) bool { return e.ReadOnly }, says("is read-only"), false},
	{IsEmpty, func(e Evidence) bool { return e.Size <= 0 }, says("has no size"), false},
	{HasPartitions, func(e Evidence) bool { return len(e.Partitions) > 0 }, func(e Evidence) string {
		return "has partitions: " + some(e.Partitions)
	}, false},
	{HasHolder, func(e Evidence) bool { return len(e.Holders) > 0 }, func(e Evidence) string {
		return "is part of " + some(e.Holders)
	}, false},
	{HasSignature, func(e Evidence) bool { return len(e.Signatures) > 0 }, func(e Evidence) string {
		return "carries " + some(signatureTypes(e.Signatures))
	}, false},
	{HasData, func(e Evidence) bool { return e.Data != "" }, func(e Evidence) string {
		return "holds data that nothing recognises " + e.Data
	}, false},
	{IsInUse, func(e Evidence) bool { return e.Busy }, says("is in use"), false},
}

// typeObjections are the devices that are no disks, whatever is on them.
var typeObjections = map[string]string{
	"loop": "is a loop device",
	"rom":  "is an optical drive",
	"ram":  "is in memory",
	"lvm":  "is a logical volume",
}

// Objections lists what keeps a device from being provably blank, what a person
// would check first coming first. None means that it is blank.
func Objections(e Evidence) []Objection {
	var all []Objection
	for _, rule := range rules {
		if rule.applies(e) {
			all = append(all, Objection{Reason: rule.reason, Message: rule.message(e)})
			if rule.final {
				break
			}
		}
	}
	return all
}

func says(message string) func(Evidence) string { return func(Evidence) string { return message } }

// maxNamed bounds how many things a message names.
const maxNamed = 5

func some(all []string) string {
	if len(all) > maxNamed {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:maxNamed], ", "), len(all)-maxNamed)
	}
	return strings.Join(all, ", ")
}

func signatureTypes(signatures []Signature) []string {
	var types []string
	for _, s := range signatures {
		if !slices.Contains(types, s.Type) {
			types = append(types, s.Type)
		}
	}
	return types
}
