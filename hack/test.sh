#!/bin/bash
# Runs the tests: unit, lvm, e2e or scale, or all of them, side by side where they do
# not wait for each other. A part that fails does not keep the others from
# running. The last lines are what each part found and how long it took.
#
# As go test does, it does not run again what has passed with the very same programs,
# charts and Debian packages, and says "(cached)"; FRESH=1 runs everything.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null
root=$PWD out=$PWD/_output/test lab=$PWD/_output/bin/lab init=$PWD/_output/bin/init
passed=$out/passed
mkdir -p "$passed" "$root/_output/bin"

# What needs neither root nor a cluster.
unit() {
	need cc gcc libc6-dev || return # the race detector is linked by it
	# What file systems look like on disk is read from real ones, in files.
	need mkfs.ext4 e2fsprogs && need mkfs.xfs xfsprogs && need mkfs.btrfs btrfs-progs || return
	local failed=0
	go test -race ./... || failed=1
	# These two look at files outside of their modules, which the cache of go test does not.
	(cd hack/chart && go test -count=1 -timeout 30m ./...) || failed=1 # it builds the program, beside all else
	(cd hack/lab && go test -count=1 ./...) || failed=1
	return $failed
}

# The packages with tests that carry the tag root, each in a machine of its own
# with blank disks. Such a machine has one processor and waits for its disks as often
# as not: one more than there are processors run at a time, those with most to do first.
lvm() {
	build_lab && need mdadm mdadm || return # the kernel of a machine has arrays, its programs are the host's
	grep -r --include='*_test.go' -l '^//go:build root' pkg | xargs -r dirname | sort -u |
		while read -r package; do echo "$(cat "$package"/*_test.go | wc -l) $package"; done | sort -rn | cut -d' ' -f2 |
		xargs -r -P $(($(nproc) + 1)) -n 1 hack/test.sh lvm-package
}

# lvm_package PACKAGE runs one of them and says at its end all that it said.
lvm_package() {
	local package=$1 name=${1//\//_} status=0 began=$SECONDS
	go test -c -tags root -o "$out/$name.test" "./$package" || status=1
	local testdata=$package/testdata
	[ -d "$testdata" ] || testdata=
	[ $status = 0 ] && known "$name" "$out/$name.test" "$lab" "$init" $testdata && echo "ok  	$package (root) (cached)" && return
	# Those without the tag have run on the host, with the race detector.
	local tests
	tests=$(grep -l '^//go:build root' "$package"/*_test.go | xargs sed -nE 's/^func (Test\w+)\(.*/\1/p' | paste -sd '|')
	[ $status = 0 ] && [ -n "$tests" ] &&
		(cd "$package" && "$lab" vm --disks 4x1G --scsi-debug 2 --timeout 30m -- "$out/$name.test" -test.v -test.timeout 28m -test.run "^($tests)\$" -test.bench '^BenchmarkACopy' -test.benchtime 2x) || status=1
	[ $status = 0 ] && pass && echo "ok  	$package (root) in $((SECONDS - began)) s" || echo "FAIL	$package (root)"
	return $status
}

# known NAME FILE... tells whether NAME has passed with these files, and those in
# directories among them, and with the Debian packages that are installed. pass notes that
# what known was asked about last has: packages may have been installed meanwhile.
known() {
	asked=("$@")
	[ -z "${FRESH-}" ] && [ -e "$(mark)" ]
}

pass() { touch "$(mark)"; }

mark() {
	echo "$passed/${asked[0]}-$({
		dpkg-query -W 2>/dev/null
		find "${asked[@]:1}" -type f -print0 | sort -z | xargs -0 sha256sum
	} | sha256sum | cut -c1-32)"
}

# The cases on a real cluster. A few that failed are tried once more, on new labs: on a
# busy machine a wait may be too short. What failed first is told in any case.
e2e() {
	build_lab && build_program && go run ./hack/image -output _output/image/open-local.tar &&
		go test -C hack/lab -c -tags e2e -o "$out/e2e.test" ./e2e || return
	# The image has the commit in it, and is otherwise made of the program.
	known e2e "$out/e2e.test" "$lab" "$init" hack/lab/programs _output/bin/open-local hack/image helm example && echo "ok  	hack/lab/e2e (cached)" && return
	cases . 2>&1 | tee "$out/e2e.first" && pass && return
	local failed
	failed=$(sed -nE 's|^    --- FAIL: TestOpenLocal/(.*) \([0-9.]+s\)$|\1|p' "$out/e2e.first" | sed 's/[^A-Za-z0-9_ -]/./g')
	[ -n "$failed" ] && [ "$(wc -l <<<"$failed")" -le 3 ] || return 1
	rm -rf "$out/failed" && mkdir "$out/failed" && cp -r --parents _output/e2e/lab*/log "$out/failed" # before new labs take their place
	echo "=== once more: $failed"
	cases "$(tr '\n' '|' <<<"$failed" | sed 's/|$//')"
}

# cases EXPRESSION runs the cases whose names match.
cases() { (cd hack/lab/e2e && "$out/e2e.test" -test.v -test.timeout 70m -test.run "^TestOpenLocal\$/($1)"); }

# Real control plane, hollow nodes.
scale() {
	build_lab && build_program && go build -C hack/lab -buildvcs=false -o "$root/_output/bin/" ./scale || return
	known scale "$lab" hack/lab/programs _output/bin/open-local _output/bin/scale helm && echo "ok  	hack/lab/scale (cached)" && return
	_output/bin/scale --nodes 1000 --pods 200 --churn 60 --modes extender,none && pass
}

# The programs of the lab's cluster. They are kept outside of the repository.
programs() { build_lab && "$lab" build; }

# build_lab builds the lab, and what it makes the first process of its machines of.
build_lab() { go build -C hack/lab -buildvcs=false -o "$root/_output/bin/" . ./guest/init; }

build_program() { CGO_ENABLED=0 go build -trimpath -buildvcs=false -o _output/bin/ ./cmd/open-local; }

# need PROGRAM PACKAGE... installs Debian packages where a program is missing.
need() {
	[ -n "$(PATH=$PATH:/usr/sbin:/sbin command -v "$1")" ] && return
	shift
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		flock "${TMPDIR:-/tmp}/open-local-lab-packages.lock" bash -c 'apt-get update -q && apt-get install -qy --no-install-recommends "$@"' - "$@" >"$out/apt.log" 2>&1 && return
		cat "$out/apt.log"
	fi
	echo "install the Debian packages $*, or what your system has in their place"
	return 1
}

# part NAME runs one of the above and keeps what it said, and how it ended.
part() {
	local began=$SECONDS status=ok
	"$1" 2>&1 | tee "$out/$1.log" || status=FAILED
	echo "$1 $status $((SECONDS - began))" >"$out/$1.end"
}

# why shows the last that was said by the tests of a log that failed.
why() {
	awk '
		/^=== (RUN|NAME|CONT|PAUSE) / { now = $3; next }
		/^ *--- FAIL: / {
			print; lines = split(said[$3], line, "\n"); more = 20
			for (i = lines > 30 ? lines - 30 : 1; i < lines; i++) print substr(line[i], 1, 400)
			next
		}
		more && /^ / { print substr($0, 1, 400); more--; next }
		{ said[now] = said[now] $0 "\n" }
	' "$1"
}

# sum tells how the parts ended. The lines of go test speak for themselves.
sum() {
	local name status seconds failed=0
	echo; echo "━━ what was found ━━"
	for part; do
		[ "$part" = programs ] || grep -hE '^(ok  |FAIL|panic:|over-commits |scale: |\s*--- FAIL|    --- PASS: TestOpenLocal/)' "$out/$part.log"
	done
	for part; do
		read -r name status seconds <"$out/$part.end"
		[ "$status" = ok ] || { echo; echo "━━ why $part failed ━━"; why "$out/$part.log"; }
	done
	echo
	for part; do
		read -r name status seconds <"$out/$part.end"
		[ "$status" = ok ] || failed=1
		printf '%-9s %-7s %dm%02ds\n' "$name" "$status" $((seconds / 60)) $((seconds % 60))
	done
	return $failed
}

case ${1-} in
lvm-package) # what lvm runs side by side
	said=$out/${2//\//_}.log
	echo "=== $2 on real LVM"
	lvm_package "$2" >"$said" 2>&1
	status=$?
	cat "$said"
	exit $status
	;;
unit | lvm | e2e | scale)
	rm -f "$out"/*.end
	part "$1"
	sum "$1"
	;;
all)
	rm -f "$out"/*.end
	part programs & # the longest to build from nothing; the unit tests do not need it
	part unit
	wait
	part lvm
	part e2e
	part scale
	sum programs unit lvm e2e scale
	status=$?
	printf '%-9s %-7s %dm%02ds\n' together '' $((SECONDS / 60)) $((SECONDS % 60))
	exit $status
	;;
*)
	echo "usage: hack/test.sh unit|lvm|e2e|scale|all" >&2
	exit 2
	;;
esac
