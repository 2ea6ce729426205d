/* SPDX-License-Identifier: Apache-2.0 */
/* Lines as the kernel and the engines of containers write them. */
#include "cgroup.h"
#include "harness.h"

#define ID "3f4b2c1d9e8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c"
#define INNER "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define POD "0a1b2c3d-1111-2222-3333-444455556666"
#define POD_ "0a1b2c3d_1111_2222_3333_444455556666"

/* "": nothing is told. */
static void told(const char *text, const char *path, const char *container, const char *pod,
                 const char *unit) {
  struct cgroup cgroup = cgroup_parse(text);
  CHECK_TEXT(cgroup.path ? cgroup.path : "", path);
  CHECK_TEXT(cgroup.container ? cgroup.container : "", container);
  CHECK_TEXT(cgroup.pod ? cgroup.pod : "", pod);
  CHECK_TEXT(cgroup.unit ? cgroup.unit : "", unit);
  cgroup_free(&cgroup);
}

/* The path of a file that has only this line, of v2. */
#define IN(path, container, pod, unit) told("0::" path "\n", path, container, pod, unit)

static void docker(void) {
  IN("/docker/" ID, ID, "", "");
  IN("/system.slice/docker-" ID ".scope", ID, "", "docker-" ID ".scope");
  told("12:pids:/docker/" ID "\n11:memory:/docker/" ID "\n1:name=systemd:/docker/" ID
       "\n0::/system.slice/containerd.service\n",
       "/docker/" ID, ID, "", "");
  /* systemd inside. */
  IN("/system.slice/docker-" ID ".scope/system.slice/ollama.service", ID, "", "ollama.service");
  IN("/docker/" ID "/docker/" INNER, INNER, "", "");
}

static void podman(void) {
  IN("/machine.slice/libpod-" ID ".scope/container", ID, "", "libpod-" ID ".scope");
  IN("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" ID ".scope", ID, "",
     "libpod-" ID ".scope");
  IN("/libpod_parent/libpod-" ID, ID, "", "");
  /* It watches a container, and is in none. */
  IN("/machine.slice/libpod-conmon-" ID ".scope", "", "", "libpod-conmon-" ID ".scope");
}

static void kubernetes(void) {
  IN("/kubepods/burstable/pod" POD "/" ID, ID, POD, "");
  IN("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" POD_
     ".slice/cri-containerd-" ID ".scope",
     ID, POD, "cri-containerd-" ID ".scope");
  IN("/kubepods.slice/kubepods-pod" POD_ ".slice/crio-" ID ".scope/container", ID, POD,
     "crio-" ID ".scope");
  IN("/kubepods.slice/kubepods-pod" POD_ ".slice/crio-conmon-" ID ".scope", "", POD,
     "crio-conmon-" ID ".scope");
  told("4:memory:/system.slice/containerd.service/kubepods-besteffort-pod" POD_
       ".slice:cri-containerd:" ID "\n",
       "/system.slice/containerd.service/kubepods-besteffort-pod" POD_ ".slice:cri-containerd:" ID,
       ID, POD, "containerd.service");
  /* A static pod: the hash of its file. */
  IN("/kubepods/besteffort/pod0123456789abcdef0123456789abcdef/" ID, ID,
     "0123456789abcdef0123456789abcdef", "");
}

static void units(void) {
  IN("/system.slice/ollama.service", "", "", "ollama.service");
  IN("/system.slice/ollama.service/runner", "", "", "ollama.service");
  IN("/system.slice/system-getty.slice/getty@tty1.service", "", "", "getty@tty1.service");
  IN("/system.slice/_memory.service", "", "", "memory.service");
  IN("/user.slice/user-1000.slice/session-2.scope", "", "", "session-2.scope");
  IN("/user.slice/user-1000.slice", "", "", "");
  IN("/user.slice/user-1000.slice/user@1000.service/app.slice/"
     "snap.ollama.ollama-7d0f9b4a-1c2d-4e3f-8a9b-0c1d2e3f4a5b.scope",
     "", "", "snap.ollama.ollama-7d0f9b4a-1c2d-4e3f-8a9b-0c1d2e3f4a5b.scope");
  IN("/user.slice/user-1000.slice/user@1000.service/app.slice/"
     "app-flatpak-com.jeffser.Alpaca-4242.scope",
     "", "", "app-flatpak-com.jeffser.Alpaca-4242.scope");
  IN("/machine.slice/systemd-nspawn@box.service/payload", "", "", "systemd-nspawn@box.service");
}

static void seen_from_within(void) {
  IN("/", "", "", "");
  IN("/../../docker-" ID ".scope", ID, "", "docker-" ID ".scope");
  IN("/../" ID, ID, "", "");
  IN("/..", "", "", "");
}

static void of_several_the_one_that_tells_most(void) {
  told("9:name=systemd:/\n4:memory:/limited/one\n1:cpu:/\n0::/\n", "/limited/one", "", "", "");
  told("4:memory:/limited/one\n1:name=systemd:/system.slice/a.service\n0::/\n",
       "/system.slice/a.service", "", "", "a.service");
  told("1:name=systemd:/system.slice/a.service\n0::/system.slice/b.service\n",
       "/system.slice/b.service", "", "", "b.service");
}

static void what_is_gone(void) {
  told("0::/system.slice/a.service (deleted)\n", "/system.slice/a.service", "", "", "a.service");
}

static void what_only_looks_like_one(void) {
  IN("/docker/" ID "0", "", "", "");
  IN("/docker/x" ID, "", "", "");
  IN("/docker/" ID "-shim", "", "", "");
  IN("/podman/pod12", "", "", "");
  IN("/x/.service/.scope", "", "", "");
}

static void nothing_and_nonsense(void) {
  static const char *const nonsense[] = {
      "", "\n", "0", "0:", "0::", "0::\n", "::\n", "x:y\n", "0::relative\n", "\n\n0\n:"};
  for (size_t i = 0; i < sizeof(nonsense) / sizeof(*nonsense); i++)
    told(nonsense[i], "", "", "", "");
  told("0::////\n", "////", "", "", "");
  told("0::/\xff.service", "/\xef\xbf\xbd.service", "", "", "\xef\xbf\xbd.service");
  told("4:memory:/a:b::/c\n", "/a:b::/c", "", "", "");
}

int main(void) {
  RUN(docker);
  RUN(podman);
  RUN(kubernetes);
  RUN(units);
  RUN(seen_from_within);
  RUN(of_several_the_one_that_tells_most);
  RUN(what_is_gone);
  RUN(what_only_looks_like_one);
  RUN(nothing_and_nonsense);
}
