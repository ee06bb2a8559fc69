package wire

import (
	"math"
	"math/rand/v2"
	"reflect"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Lie changes fields of some answers at random, from a seed: numbers to other and to extreme numbers, success
// to any error, texts, and lists with lost or repeated elements. The client receives decodable, untrue
// answers. On average, one in `every` answers is changed. A refusal never becomes success, written records
// are not refused permanently, and the numbers of producers are true: with such lies a broker loses records
// by itself. (An idempotent producer reuses the sequence number of a permanently refused batch for the next
// batch, and the broker takes the next batch for a repetition.)
func Lie(seed uint64, every int) Fault {
	var mtx sync.Mutex
	random := rand.New(rand.NewPCG(seed, 1))
	return Fault{Answer: func(c *Conn, to Header, answer []byte) []byte {
		mtx.Lock()
		defer mtx.Unlock()
		if random.IntN(every) != 0 || kmsg.ResponseForKey(int16(to.Key)) == nil || len(answer) < 9 {
			return answer
		}
		return Rewrite(to.Key, func(to Header, body []byte) []byte {
			response := kmsg.ResponseForKey(int16(to.Key))
			response.SetVersion(to.Version)
			decoded := body
			if tagged(response) {
				decoded = body[1:]
			}
			if response.ReadFrom(append([]byte{}, decoded...)) != nil {
				return body
			}
			fields := leaves(reflect.ValueOf(response).Elem(), "", nil)
			for range 1 + random.IntN(2) {
				if len(fields) > 0 {
					fields[random.IntN(len(fields))].change(random, to.Key)
				}
			}
			return Encode(response)
		}).Answer(c, to, answer)
	}}
}

// leaf is a changeable field of an answer.
type leaf struct {
	name  string
	value reflect.Value
}

// leaves appends the fields below v.
func leaves(v reflect.Value, name string, all []leaf) []leaf {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i).Name
			refusal := field == "ErrorCode" && v.Field(i).Int() != 0
			if field != "Version" && field != "UnknownTags" && field != "ProducerID" && field != "ProducerEpoch" && !refusal {
				all = leaves(v.Field(i), field, all)
			}
		}
		return all
	case reflect.Pointer:
		if !v.IsNil() {
			all = leaves(v.Elem(), name, all)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			for i := range v.Len() {
				all = leaves(v.Index(i), name, all)
			}
		}
	case reflect.Array, reflect.Map:
		return all
	}
	return append(all, leaf{name, v})
}

func (l leaf) change(random *rand.Rand, key kmsg.Key) {
	switch l.value.Kind() {
	case reflect.Bool:
		l.value.SetBool(!l.value.Bool())
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		now := l.value.Int()
		value := []int64{0, -1, 1, now + 1, now - 1, now ^ 1<<random.IntN(62), math.MaxInt64, math.MinInt64, math.MaxInt32, math.MaxInt16, -2}[random.IntN(11)]
		if l.name == "ErrorCode" {
			value = int64(random.IntN(134) - 1)
			for key == kmsg.Produce && !kerr.IsRetriable(kerr.ErrorForCode(int16(value))) {
				value = int64(random.IntN(134) - 1)
			}
		}
		l.value.SetInt(value)
	case reflect.String:
		l.value.SetString([]string{"", "x", "none", "all", "\x1b[31m\r\n", l.value.String() + "."}[random.IntN(6)])
	case reflect.Pointer:
		l.value.SetZero()
	case reflect.Slice:
		n := l.value.Len()
		switch {
		case n == 0 || random.IntN(3) == 0:
			l.value.SetZero()
		case random.IntN(2) == 0:
			l.value.Set(l.value.Slice(0, n-1))
		case l.value.Type().Elem().Kind() == reflect.Uint8:
			bytes := append([]byte{}, l.value.Bytes()...)
			bytes[random.IntN(n)] ^= 1 << random.IntN(8)
			l.value.SetBytes(bytes)
		default:
			l.value.Set(reflect.Append(l.value, l.value.Index(random.IntN(n))))
		}
	}
}
