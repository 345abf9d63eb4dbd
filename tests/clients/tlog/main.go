// Checks a log, its proofs and its checkpoints with the Go modules of transparency-dev.
//
// Reads a request as JSON from standard input; prints the sizes of the checkpoints that were
// opened, or the first thing that does not hold, and then ends with status 1.
package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/transparency-dev/formats/log"
	fnote "github.com/transparency-dev/formats/note"
	fproof "github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
)

type request struct {
	LogKey      string
	CosignerKey string
	Proofs      []struct{ Leaf, File []byte }
	Consistency []struct {
		Old, New         uint64
		OldRoot, NewRoot []byte
		Hashes           [][]byte
	}
	Folder string
}

func main() {
	var wanted request
	if err := json.NewDecoder(os.Stdin).Decode(&wanted); err != nil {
		fail(err)
	}
	key, err := note.NewVerifier(wanted.LogKey)
	if err != nil {
		fail(err)
	}
	cosigner, err := fnote.NewVerifierForCosignatureV1(wanted.CosignerKey)
	if err != nil {
		fail(err)
	}
	for _, each := range wanted.Proofs {
		var file fproof.TLogProof
		if err := file.Unmarshal(each.File); err != nil {
			fail(err)
		}
		opened := open(file.Checkpoint, key, cosigner)
		path := make([][]byte, 0, len(file.Hashes))
		for _, hash := range file.Hashes {
			path = append(path, hash[:])
		}
		leaf := rfc6962.DefaultHasher.HashLeaf(each.Leaf)
		check(proof.VerifyInclusion(rfc6962.DefaultHasher, file.Index, opened.Size, leaf, path, opened.Hash))
		fmt.Println(opened.Size)
	}
	for _, c := range wanted.Consistency {
		check(proof.VerifyConsistency(rfc6962.DefaultHasher, c.Old, c.New, c.Hashes, c.OldRoot, c.NewRoot))
	}
	if wanted.Folder != "" {
		raw, err := os.ReadFile(filepath.Join(wanted.Folder, "checkpoint"))
		check(err)
		opened := open(raw, key, cosigner)
		check(compare(wanted.Folder, opened))
		fmt.Println(opened.Size)
	}
}

// open returns a checkpoint that both keys have signed.
func open(raw []byte, key, cosigner note.Verifier) *log.Checkpoint {
	opened, _, signed, err := log.ParseCheckpoint(raw, key.Name(), key, cosigner)
	check(err)
	if len(signed.Sigs) != 2 {
		fail(fmt.Errorf("%d signatures", len(signed.Sigs)))
	}
	return opened
}

// compare hashes all entries of the log, and compares the root with that of the checkpoint.
func compare(folder string, opened *log.Checkpoint) error {
	hasher := rfc6962.DefaultHasher
	tree := (&compact.RangeFactory{Hash: hasher.HashChildren}).NewEmptyRange(0)
	for number := uint64(0); number*256 < opened.Size; number++ {
		name := fmt.Sprintf("tile/entries/%03d", number)
		if width := opened.Size - number*256; width < 256 {
			name += fmt.Sprintf(".p/%d", width)
		}
		bundle, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return err
		}
		for len(bundle) > 0 {
			end := 2 + int(binary.BigEndian.Uint16(bundle))
			if err := tree.Append(hasher.HashLeaf(bundle[2:end]), nil); err != nil {
				return err
			}
			bundle = bundle[end:]
		}
	}
	root, err := tree.GetRootHash(nil)
	if err != nil {
		return err
	}
	if tree.End() != opened.Size || string(root) != string(opened.Hash) {
		return fmt.Errorf("the entries are not those of the checkpoint")
	}
	return nil
}

func check(err error) {
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Println(err)
	os.Exit(1)
}
