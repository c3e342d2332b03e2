package follow

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/open-local/open-local/pkg/slim"
)

// record is what is kept of a ConfigMap: the words in it.
type record struct {
	slim.Meta
	words []string
}

func keep(o runtime.Object) *record {
	m, ok := o.(*corev1.ConfigMap)
	if !ok {
		return nil
	}
	return &record{slim.MetaOf(m), strings.Fields(m.Data["words"])}
}

func object(name, version, words string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, ResourceVersion: version}, Data: map[string]string{"words": words}}
}

func options() Options[*record] {
	return Options[*record]{
		Name: "words", Type: &corev1.ConfigMap{}, Keep: keep,
		Indexes: map[string]func(*record) []string{"word": func(r *record) []string { return r.words }},
	}
}

// news are what a cache tells, in words.
type news []string

func (n *news) listen(c *Cache[*record]) {
	c.Listen(func(before, now *record) {
		if before == nil {
			*n = append(*n, "new "+now.Name())
			return
		}
		*n = append(*n, fmt.Sprintf("%s from %v to %v", now.Name(), before.words, now.words))
	}, func(last *record) { *n = append(*n, "gone "+last.Name()) })
}

func keys(records []*record) []string {
	var all []string
	for _, r := range records {
		all = append(all, r.Name())
	}
	slices.Sort(all)
	return all
}

func TestNewsAreWorkedIn(t *testing.T) {
	c, told := New(options()), news{}
	told.listen(c)
	s := sink[*record]{c}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.Replace([]any{object("a", "1", "red green"), keep(object("b", "2", "green"))}, "2"))
	if err := c.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(s.Add(object("c", "3", "blue")))
	must(s.Update(object("a", "4", "green")))
	must(s.Update(object("a", "4", "green"))) // no news
	must(s.Delete(object("b", "5", "green")))
	must(s.Delete(object("b", "5", "green"))) // nor is this
	if diff := cmp.Diff(news{"new a", "new b", "new c", "a from [red green] to [green]", "gone b"}, told); diff != "" {
		t.Errorf("news (-want +got):\n%s", diff)
	}
	got := map[string][]string{"all": keys(c.List()), "red": keys(c.By("word", "red")), "green": keys(c.By("word", "green")), "blue": keys(c.By("word", "blue"))}
	if diff := cmp.Diff(map[string][]string{"all": {"a", "c"}, "red": nil, "green": {"a"}, "blue": {"c"}}, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	told = nil
	must(s.Replace([]any{object("a", "4", "green"), object("c", "6", "green"), object("d", "7", "")}, "7"))
	slices.Sort(told)
	if diff := cmp.Diff(news{"c from [blue] to [green]", "new d"}, told); diff != "" {
		t.Errorf("news of a list (-want +got):\n%s", diff)
	}
	told = nil
	must(s.Replace(nil, "8"))
	slices.Sort(told)
	if diff := cmp.Diff(news{"gone a", "gone c", "gone d"}, told); diff != "" {
		t.Errorf("news of an empty list (-want +got):\n%s", diff)
	}
	if _, there := c.Get("ns/a"); there || len(c.List()) > 0 || len(c.By("word", "green")) > 0 {
		t.Errorf("left are %v and %v", c.List(), c.By("word", "green"))
	}
	if err := s.Add("nonsense"); err == nil {
		t.Error("what is no object is taken")
	}
}

func TestWhoWritesKnowsBeforeTheNews(t *testing.T) {
	c, told := New(options()), news{}
	told.listen(c)
	s := sink[*record]{c}
	if err := s.Replace([]any{object("a", "1", "red")}, "1"); err != nil {
		t.Fatal(err)
	}
	told = nil
	c.Put(keep(object("a", "5", "blue")))
	for _, version := range []string{"3", "4", "5"} { // older news, and the echo
		words := map[string]string{"3": "green", "4": "yellow", "5": "blue"}[version]
		if err := s.Update(object("a", version, words)); err != nil {
			t.Fatal(err)
		}
		if got := keys(c.By("word", "blue")); len(got) != 1 || len(c.List()) != 1 || c.Len() != 1 {
			t.Errorf("after news of version %s blue are %v, of %d", version, got, c.Len())
		}
	}
	if len(told) > 0 {
		t.Errorf("news of what is known: %q", told)
	}
	if err := s.Update(object("a", "6", "red")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(news{"a from [blue] to [red]"}, told); diff != "" {
		t.Errorf("news (-want +got):\n%s", diff)
	}
}

func TestSomeObjectsAreSelected(t *testing.T) {
	var asked []string
	ask := func(o metav1.ListOptions) { asked = append(asked, o.LabelSelector) }
	s := Source{
		list: func(_ context.Context, o metav1.ListOptions) (runtime.Object, error) {
			ask(o)
			return &corev1.ConfigMapList{}, nil
		},
		watch: func(_ context.Context, o metav1.ListOptions) (watch.Interface, error) {
			ask(o)
			return watch.NewFake(), nil
		},
	}.Selecting("of=ours")
	_, listed := s.list(t.Context(), metav1.ListOptions{})
	_, watched := s.watch(t.Context(), metav1.ListOptions{})
	if diff := cmp.Diff([]string{"of=ours", "of=ours"}, asked); diff != "" || listed != nil || watched != nil {
		t.Errorf("%v, %v, selected (-want +got):\n%s", listed, watched, diff)
	}
}

// TestItIsKnownWhenTheAPIServerWasHeard has it say something, and say that there is no news.
func TestItIsKnownWhenTheAPIServerWasHeard(t *testing.T) {
	now := clocktesting.NewFakePassiveClock(time.Unix(100, 0))
	o := options()
	o.Clock = now
	c := New(o)
	var store cache.ResourceVersionUpdater = sink[*record]{c}
	for _, heard := range []struct {
		what string
		at   int64
		says func()
	}{
		{"nothing yet", 100, func() {}},
		{"what there is", 200, func() {
			if err := (sink[*record]{c}).Replace([]any{object("a", "1", "red")}, "1"); err != nil {
				t.Fatal(err)
			}
		}},
		{"nothing since", 200, func() {}},
		{"that there is no news", 400, func() { store.UpdateResourceVersion("7") }},
	} {
		heard.says()
		if got := c.Heard().Unix(); got != heard.at {
			t.Errorf("after it said %s it was heard at %d, want %d", heard.what, got, heard.at)
		}
		now.SetTime(now.Now().Add(100 * time.Second))
	}
}

func TestAnAPIServerIsFollowed(t *testing.T) {
	client, watched := fake.NewClientset(object("a", "", "red")), make(chan struct{}, 1)
	client.PrependWatchReactor("*", func(action clienttesting.Action) (bool, watch.Interface, error) {
		w, err := client.Tracker().Watch(action.GetResource(), action.GetNamespace())
		watched <- struct{}{} // what happens before, and after the list, the fake loses
		return true, w, err
	})
	o := options()
	o.Source = From(client, client.CoreV1().ConfigMaps("ns"))
	c, changed := New(o), make(chan string, 10)
	c.Listen(func(_, now *record) { changed <- "seen " + now.Name() }, func(last *record) { changed <- "gone " + last.Name() })
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { c.Run(ctx); close(ended) }()
	if err := c.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	<-watched
	if _, err := client.CoreV1().ConfigMaps("ns").Create(ctx, object("b", "", "green"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := client.CoreV1().ConfigMaps("ns").Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"seen a", "seen b", "gone a"} {
		if got := <-changed; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if diff := cmp.Diff([]string{"b"}, keys(c.By("word", "green"))); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	stop()
	<-ended
}

// TestAListIsReadInPages has three of them.
func TestAListIsReadInPages(t *testing.T) {
	o, asked := options(), []string{}
	o.Source.list = func(_ context.Context, page metav1.ListOptions) (runtime.Object, error) {
		asked = append(asked, fmt.Sprintf("%d %s%s", page.Limit, page.ResourceVersion, page.Continue))
		name := map[string]string{"": "a", "2": "b", "3": "c"}[page.Continue]
		list := &corev1.ConfigMapList{Items: []corev1.ConfigMap{*object(name, "7", name)}}
		list.ResourceVersion, list.Continue = "9", map[string]string{"": "2", "2": "3"}[page.Continue]
		return list, nil
	}
	c := New(o)
	list, err := c.list(t.Context(), metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"2000 ", "2000 2", "2000 3"}, asked); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
	objects, err := meta.ExtractListWithAlloc(list) // as the reflector does
	if err != nil {
		t.Fatal(err)
	}
	items := make([]any, len(objects))
	for i := range objects {
		items[i] = objects[i]
	}
	if err := (sink[*record]{c}).Replace(items, "9"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, keys(c.List())); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	gone := errors.New("gone")
	o.Source.list = func(context.Context, metav1.ListOptions) (runtime.Object, error) { return nil, gone }
	if _, err := New(o).list(t.Context(), metav1.ListOptions{}); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}

func TestWaitingEnds(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := New(options()).Wait(ctx); err == nil || !strings.Contains(err.Error(), "reading all words") {
		t.Errorf("got %v", err)
	}
}

// TestATableHasWhatAMapWouldHave adds and removes at random, with so few hashes that many
// values lie where others would.
func TestATableHasWhatAMapWouldHave(t *testing.T) {
	type pair struct {
		hash  uint32
		value *int
	}
	const seed = 7
	random := rand.New(rand.NewPCG(seed, seed))
	values := make([]*int, 20)
	for i := range values {
		values[i] = new(int)
	}
	steps := 0
	for _, spread := range []uint32{1, 1 << 20, 1 << 28, 1<<32 - 1} { // all under one hash, or apart
		var have table[*int]
		want := map[pair]int{}
		for range 2_000 {
			steps++
			p := pair{random.Uint32N(8) * (spread / 8), values[random.IntN(len(values))]}
			if random.IntN(5) < 2 {
				have.remove(p.hash, p.value)
				if want[p]--; want[p] <= 0 {
					delete(want, p)
				}
			} else if len(want) < 100 {
				have.add(p.hash, p.value)
				want[p]++
			}
			got, count := map[pair]int{}, 0
			for hash := range uint32(8) {
				hash *= spread / 8
				for value := range have.under(hash) {
					got[pair{hash, value}]++
				}
				if spread/8 == 0 {
					break
				}
			}
			for range have.all() {
				count++
			}
			total := 0
			for n := range maps.Values(want) {
				total += n
			}
			if !maps.Equal(got, want) || count != total || have.count != total {
				t.Fatalf("step %d, seed %d: it has %v and counts %d, %d; want %v", steps, seed, got, have.count, count, want)
			}
		}
	}
	t.Logf("%d steps tried", steps)
}
