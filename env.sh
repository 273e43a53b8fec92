export HOME=/tmp/sd/h XDG_RUNTIME_DIR=/tmp/sd/h/run PATH=/work/wt-screens/target/debug:$PATH PS1='$ '
unset XDG_DATA_HOME XDG_CONFIG_HOME
cd $HOME
