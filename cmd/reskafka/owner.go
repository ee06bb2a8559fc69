package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"reskafka/internal/rooted"
)

// becomeOwner changes this process permanently to the owner of path: root would follow the owner's
// preparations there, and leave files behind that Asterisk cannot open. Any other user is refused, with the
// command to run.
func becomeOwner(path string, args []string) error {
	uid, err := ownerOf(path)
	me := os.Geteuid()
	switch {
	case errors.Is(err, fs.ErrPermission) && me != 0:
		return fmt.Errorf("%w; run it as the user that Asterisk runs as, or as root", err)
	case err != nil:
		return fmt.Errorf("looking for spools: %w", err)
	case uid == me:
		return nil
	case me != 0:
		return fmt.Errorf("%s belongs to user %s: sudo -u '#%d' reskafka spool %s", path, rooted.UserName(uid), uid, strings.Join(args, " "))
	}
	account, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		account = &user.User{Gid: strconv.Itoa(uid)}
	}
	gid, err := strconv.Atoi(account.Gid)
	if err != nil {
		return fmt.Errorf("the group of user %s: %w", rooted.UserName(uid), err)
	}
	groups := []int{gid}
	names, _ := account.GroupIds() // without groups, some files of other groups are unreadable
	for _, name := range names {
		if id, err := strconv.Atoi(name); err == nil && id != gid {
			groups = append(groups, id)
		}
	}
	if err := errors.Join(syscall.Setgroups(groups), syscall.Setresgid(gid, gid, gid), syscall.Setresuid(uid, uid, uid)); err != nil {
		return fmt.Errorf("becoming user %s, the owner of %s: %w", rooted.UserName(uid), path, err)
	}
	return nil
}

// ownerOf returns the owner of a directory. For a symbolic link, it returns the link's owner, except for
// root's links, which are followed.
func ownerOf(path string) (uid int, err error) {
	link, err := os.Lstat(path)
	if err != nil {
		return 0, err
	}
	if link.Mode()&fs.ModeSymlink != 0 && rooted.Owner(link) == 0 {
		resolved, err := rooted.Resolve(path)
		if err != nil {
			return 0, err
		}
		return ownerOf(resolved)
	}
	return rooted.Owner(link), nil
}
