package config

// generalTable is [general] of kafka.conf.
var generalTable = Table[Kafka]{
	Section: "general",
	What:    "[general]",
	Short:   "Settings of the module",
	Options: []Option[Kafka]{
		{Info{
			Name: "enabled", Label: "Enabled", Kind: Boolean, Default: "yes", Reload: AtOnce, Since: "1.0.0",
			Short: "Whether the module offers its connections",
			Long: "With no, every request for a producer or consumer is refused and nothing is sent, but the file is" +
				" still checked.",
		}, func(k *Kafka) any { return &k.Enabled }},
	},
}
